"""The back ends that an integer network can run on, each loaded when it is asked for."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from arraysmith.errors import InvalidNetworkError, MissingExtraError
from arraysmith.quantization.verifying import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import ModelProto

    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.verifying import Arrays, Runner

LEVELS = ("disabled", "basic", "extended", "all")
"""Of ONNX Runtime's optimisation."""


def back_ends(network: IntegerNetwork, weight_folder: Path) -> tuple[Waiting, ...]:
    """Every back end that could run a network; loading one may find that it cannot.

    Args:
        network: the integer network.
        weight_folder: an export of it as text, to be read back.
    """
    integer_model = cache(partial(_integer_model, network))
    integers = tuple(
        Waiting(
            name=f"ONNX Runtime, optimisations {level}",
            load=partial(_onnx_runtime, integer_model, level),
        )
        for level in LEVELS
    )
    text = Waiting(name="text files", load=partial(_text, weight_folder))
    exact = exact_qdq(network, every=True)
    if exact is None:
        return (torch_back_end(network), *integers, text)
    qdq = (
        Waiting(
            name=f"QDQ in ONNX Runtime, optimisations {level}",
            load=partial(_qdq, network, exact, level),
        )
        for level in LEVELS
    )
    return (torch_back_end(network), *integers, *qdq, text)


def torch_back_end(network: IntegerNetwork) -> Waiting:
    """The torch engine."""
    return Waiting(name="torch", load=partial(_torch, network))


def exact_qdq(network: IntegerNetwork, *, every: bool = False) -> ModelProto | None:
    """The QDQ model that is proven to give the same integers; None without a proof, or onnx.

    Args:
        network: the integer network.
        every: give out the integers of all layers, not only the outputs.
    """
    try:
        from arraysmith.quantization.onnx_qdq import qdq_model

        return qdq_model(network, exact=True, every=every)
    except (InvalidNetworkError, ModuleNotFoundError):
        return None


def _torch(network: IntegerNetwork) -> Runner:
    import torch

    from arraysmith.quantization.calibration import tensors_of
    from arraysmith.quantization.modules import QuantNetwork

    module = QuantNetwork(network)

    @torch.inference_mode()
    def run(inputs: Arrays) -> Arrays:
        return {layer.name: x.numpy() for layer, x in module.trace(tensors_of(inputs))}

    return run


def _integer_model(network: IntegerNetwork) -> ModelProto:
    try:
        from arraysmith.quantization.onnx_integer import integer_model
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"ONNX Runtime needs {error.name}: pip install 'arraysmith[onnx]'"
        ) from error
    return integer_model(network, every=True)


def _onnx_runtime(model: Callable[[], ModelProto], level: str) -> Runner:
    from arraysmith.quantization.onnx_session import session

    return session(model(), level)


def _qdq(network: IntegerNetwork, model: ModelProto, level: str) -> Runner:
    import numpy as np

    from arraysmith.quantization.onnx_session import session

    run = session(model, level)
    types = {each.name: each.type for each in network.inputs}

    def run_reals(inputs: Arrays) -> Arrays:
        reals = {}
        for name, q in inputs.items():
            type_ = types[name]
            reals[name] = q if type_ is None else type_.dequantize(q).astype(np.float32)
        return run(reals)

    return run_reals


def _text(folder: Path) -> Runner:
    from arraysmith.quantization import int8
    from arraysmith.quantization.export import read_export

    network = read_export(folder)
    return lambda inputs: {layer.name: found for layer, found in int8.trace(network, inputs)}
