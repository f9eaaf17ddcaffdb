"""Integer models in ONNX Runtime, on the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arraysmith.errors import InvalidNetworkError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import ModelProto

Level = Literal["disabled", "basic", "extended", "all"]
"""How far ONNX Runtime may rewrite a graph."""
LEVELS: tuple[Level, ...] = ("disabled", "basic", "extended", "all")


def run_integer(
    model: ModelProto, inputs: Mapping[str, NDArray[Any]], level: Level = "all"
) -> dict[str, NDArray[np.int64]]:
    """The outputs of a model, by name.

    Args:
        model: from `integer_model`.
        inputs: integers (batch, *shape) by name, in any integer type.
        level: of ONNX Runtime's optimization.

    Raises:
        InvalidNetworkError: an input is missing, or its integers are not of its type.
        MissingExtraError: ONNX Runtime is not installed.
    """
    session = _session(model, level)
    feeds = {given.name: _fed(given.name, given.type, inputs) for given in session.get_inputs()}
    names = [each.name for each in session.get_outputs()]
    found = session.run(names, feeds)
    return {name: np.asarray(y, np.int64) for name, y in zip(names, found, strict=True)}


def _session(model: ModelProto, level: Level) -> Any:  # noqa: ANN401  (it has no types)
    try:
        import onnxruntime  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "running ONNX models needs onnxruntime: pip install 'arraysmith[onnx]'"
        ) from error
    chosen = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = {
        "disabled": chosen.ORT_DISABLE_ALL,
        "basic": chosen.ORT_ENABLE_BASIC,
        "extended": chosen.ORT_ENABLE_EXTENDED,
        "all": chosen.ORT_ENABLE_ALL,
    }[level]
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _fed(name: str, type_: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if name not in inputs:
        raise InvalidNetworkError(f"input {name!r} is missing; there are {', '.join(inputs)}")
    words = np.asarray(inputs[name])
    fed = words.astype(type_.removeprefix("tensor(").removesuffix(")"))
    if not np.array_equal(fed, words):
        raise InvalidNetworkError(
            f"input {name!r} has {words.min()}…{words.max()}, which {fed.dtype} does not hold"
        )
    return fed
