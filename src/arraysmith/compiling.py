"""How inner loops are compiled: once, for every later process, without the interpreter's lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numba as nb

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
Result = TypeVar("Result")


def compiled(function: Callable[P, Result]) -> Callable[P, Result]:
    """Compile a function of integers, floats and arrays on its first call and cache the code.

    Divisions are not checked for zero: what reaches compiled code was checked before.
    """
    made: Callable[P, Result] = nb.njit(cache=True, nogil=True, error_model="numpy")(function)
    return made
