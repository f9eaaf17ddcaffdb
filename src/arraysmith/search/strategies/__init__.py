"""Search strategies by name. A new one is a file here and a line in `STRATEGIES`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.search.strategies import descent, genetic, random_search

if TYPE_CHECKING:
    from arraysmith.search.strategies.contract import Strategy

STRATEGIES: dict[str, Strategy] = {
    "genetic": genetic.search,
    "random": random_search.search,
    "descent": descent.search,
}
