"""Element-wise functions by name, with the numbers they need; chains of them become one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from arraysmith.errors import InvalidNetworkError


class Function(StrEnum):
    """y = f(x), word by word; numbers are given in this order."""

    RELU = "relu"
    CLIP = "clip"
    """low, high: infinite where open. ReLU6 is clip 0, 6."""
    LEAKY_RELU = "leaky-relu"
    """slope."""
    ELU = "elu"
    """alpha."""
    SIGMOID = "sigmoid"
    TANH = "tanh"
    SILU = "silu"
    GELU = "gelu"
    """x·Φ(x), exact."""
    GELU_TANH = "gelu-tanh"
    """Its approximation by tanh."""
    HARD_SIGMOID = "hard-sigmoid"
    """alpha, beta: max(0, min(1, alpha·x + beta))."""
    HARD_SWISH = "hard-swish"
    """x·max(0, min(1, x/6 + 1/2))."""
    SOFTPLUS = "softplus"
    MISH = "mish"
    ERF = "erf"
    EXP = "exp"
    LOG = "log"
    SQRT = "sqrt"
    RECIPROCAL = "reciprocal"
    ABS = "abs"
    POWER = "power"
    """exponent."""
    ADD = "add"
    """a constant."""
    MUL = "mul"
    """a constant."""


_NUMBERS = {
    Function.CLIP: 2,
    Function.LEAKY_RELU: 1,
    Function.ELU: 1,
    Function.HARD_SIGMOID: 2,
    Function.POWER: 1,
    Function.ADD: 1,
    Function.MUL: 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One function of a chain."""

    function: Function
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """As many numbers as the function takes."""
        takes = _NUMBERS.get(self.function, 0)
        if len(self.numbers) != takes:
            raise InvalidNetworkError(f"{self.function} takes {takes} numbers, got {self.numbers}")
