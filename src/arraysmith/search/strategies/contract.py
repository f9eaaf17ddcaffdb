"""What a search strategy is: a generator that asks for designs and is told what they are worth.

A design is a row of integers, one for each axis: `0 <= design[k] < sizes[k]`. A strategy is called
with the sizes of the axes and a source of chance. It yields designs, (n, axes) int64, and is sent

    F (n, objectives) float64, all made small; inf where a design could not be evaluated
    G (n, constraints) float64, kept where ≤ 0; there may be no column. Violations are added up, so
      give them in relation to the limit, as in value / limit - 1

of them, row by row. It may ask for designs again. It ends when it returns, or when the driver,
`arraysmith.search.heuristic`, has seen enough. The same seed and the same answers give the same
batches; nothing but the generator given is asked for chance.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Designs: TypeAlias = NDArray[np.int64]
"""(n, axes)."""
Answer: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""F and G."""
Search: TypeAlias = Generator[Designs, Answer, None]
Strategy: TypeAlias = Callable[[tuple[int, ...], np.random.Generator], Search]
