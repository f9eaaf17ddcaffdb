"""ONNX models in ONNX Runtime, on the processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from arraysmith.errors import InvalidNetworkError, MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

Arrays = Mapping[str, "NDArray[Any]"]
Level = Literal["disabled", "basic", "extended", "all"]
"""How far ONNX Runtime may rewrite a graph."""
LEVELS: tuple[Level, ...] = get_args(Level)

_NUMPY_NAMES = {"float": "float32", "double": "float64"}


def session(model: ModelProto, level: str) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
    """A loaded model: a function of inputs (batch, *shape) by name, to all outputs by name.

    The function takes integers of any type that hold what the model's own type does, and raises
    InvalidNetworkError where they do not, where an input is missing, or where batches differ.

    Args:
        model: whose types are the arrays' own.
        level: one of `LEVELS`.

    Raises:
        InvalidNetworkError: there is no such level.
        MissingExtraError: ONNX Runtime is not installed.
    """
    loaded = _loaded(model, level)
    names = [each.name for each in loaded.get_outputs()]

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        feeds = {given.name: _fed(given.name, given.type, inputs) for given in loaded.get_inputs()}
        if len({len(array) for array in feeds.values()}) > 1:
            sizes = ", ".join(f"{name} has {len(array)}" for name, array in feeds.items())
            raise InvalidNetworkError(f"inputs of different batches: {sizes}")
        return dict(zip(names, loaded.run(names, feeds), strict=True))

    return run


def run_integer(
    model: ModelProto, inputs: Arrays, level: str = "all"
) -> dict[str, NDArray[np.int64]]:
    """The outputs of a model of integers, by name, as int64.

    Args:
        model: from `integer_model`.
        inputs: integers (batch, *shape) by name, in any integer type.
        level: one of `LEVELS`.

    Raises:
        InvalidNetworkError: as `session`, and the function that it gives.
        MissingExtraError: ONNX Runtime is not installed.
    """
    found = session(model, level)(inputs)
    return {name: np.asarray(y, np.int64) for name, y in found.items()}


def _loaded(model: ModelProto, level: str) -> Any:  # noqa: ANN401 (ONNX Runtime has no types)
    try:
        import onnxruntime  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "running ONNX models needs onnxruntime: pip install 'arraysmith[onnx]'"
        ) from error
    chosen = onnxruntime.GraphOptimizationLevel
    levels = {
        "disabled": chosen.ORT_DISABLE_ALL,
        "basic": chosen.ORT_ENABLE_BASIC,
        "extended": chosen.ORT_ENABLE_EXTENDED,
        "all": chosen.ORT_ENABLE_ALL,
    }
    if level not in levels:
        raise InvalidNetworkError(f"no optimisation level {level!r}; choose {', '.join(LEVELS)}")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels[level]
    options.log_severity_level = 3  # errors: nothing here prints
    loaded = onnxruntime.InferenceSession
    return loaded(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _fed(name: str, type_: str, inputs: Arrays) -> NDArray[Any]:
    if name not in inputs:
        raise InvalidNetworkError(f"input {name!r} is missing; got {', '.join(inputs) or 'none'}")
    words = np.asarray(inputs[name])
    wanted = type_.removeprefix("tensor(").removesuffix(")")
    fed = words.astype(_NUMPY_NAMES.get(wanted, wanted))
    if fed.dtype.kind in "iu" and not np.array_equal(fed, words):
        raise InvalidNetworkError(
            f"input {name!r} has {words.min()}…{words.max()}, which {fed.dtype} does not hold"
        )
    return fed
