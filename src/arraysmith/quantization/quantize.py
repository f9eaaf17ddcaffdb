"""A float network becomes an integer network: passes, ranges, integers, bias correction."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.operations import Constant, Lookup
from arraysmith.progress import silent
from arraysmith.quantization.calibration import calibrated_range, needs_histogram, observe
from arraysmith.quantization.correction import MAX_SAMPLES, ChannelMeans, correct_biases
from arraysmith.quantization.equalization import equalize
from arraysmith.quantization.lowering import lower
from arraysmith.quantization.masks import unmasked_ranges
from arraysmith.quantization.overrides import check_overrides
from arraysmith.quantization.passes import simplified
from arraysmith.quantization.plan import plan
from arraysmith.quantization.scheme import Calibration, given_range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.progress import Progress
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.plan import Plan
    from arraysmith.quantization.samples import Samples
    from arraysmith.quantization.scheme import LayerOverride, Scheme


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantized:
    """An integer network, and the float network that it stands for."""

    network: IntegerNetwork
    graph: FloatGraph
    """Behind the passes: batch normalizations folded, weights equalized."""
    scheme: Scheme
    float_names: Mapping[str, str]
    """Integer layer to the float tensor that it stands for."""


def quantize(
    graph: FloatGraph,
    samples: Samples,
    scheme: Scheme,
    overrides: Sequence[LayerOverride] = (),
    *,
    integer_only: bool = False,
    progress: Progress = silent,
) -> Quantized:
    """Quantize a float network.

    Args:
        graph: the float network.
        samples: what it is calibrated on.
        scheme: the choices.
        overrides: other choices for single layers.
        integer_only: refuse what would run in floats.
        progress: shows samples.

    Raises:
        InvalidNetworkError: a layer has no integer form under its scheme, an override is of no
            layer, or a tensor has NaN; it is named.
        InputFileError: samples that do not vary.
    """
    _check_finite(graph)
    graph = simplified(graph)
    if scheme.equalize:
        graph = equalize(graph)
    choose = partial(scheme.for_layer, overrides=overrides)
    planned = plan(graph, choose, partial(given_range, overrides=overrides))
    check_overrides(overrides, [*(given.name for given in graph.inputs), *planned.layers.values()])
    means = None
    if scheme.bias_correction and len(samples) <= MAX_SAMPLES:
        means = ChannelMeans(graph)
    ranges = _ranges(
        graph, planned, samples, scheme, overrides=overrides, means=means, progress=progress
    )
    lowered = lower(graph, planned, ranges, choose)
    network = lowered.network
    if integer_only and network.islands:
        island = network.islands[0]
        kind = getattr(island.operation, "kind", type(island.operation).__name__)
        raise InvalidNetworkError(
            f"layer {island.name!r} ({kind}) has no integer form and "
            "would run in floats; leave out --integer-only, or replace it"
        )
    if scheme.bias_correction:
        network = correct_biases(network, graph, samples, means=means, progress=progress)
    return Quantized(network=network, graph=graph, scheme=scheme, float_names=lowered.float_names)


def _check_finite(graph: FloatGraph) -> None:
    """Refuse weights that are NaN or infinite, before they turn up as something else."""
    for operation in graph.operations:
        if isinstance(operation, Constant):
            continue  # a mask may hold them; whether they come through is seen on samples
        for each in fields(operation):
            value = getattr(operation, each.name)
            if isinstance(value, np.ndarray) and not np.isfinite(value).all():
                raise InvalidNetworkError(
                    f"layer {operation.name!r} holds NaN or infinity in its {each.name}; train the "
                    "network again, or export it again"
                )


def _ranges(
    graph: FloatGraph,
    planned: Plan,
    samples: Samples,
    scheme: Scheme,
    *,
    overrides: Sequence[LayerOverride],
    means: ChannelMeans | None,
    progress: Progress,
) -> dict[str, tuple[float, float]]:
    """Low and high of every tensor that has no type yet: as given, else as observed."""
    layers = planned.layers
    given: dict[str, tuple[float, float]] = {}
    schemes: dict[str, Scheme] = {}
    typed = {each.name for each in graph.inputs if each.type} | set(graph.types)
    for tensor in planned.observed:
        layer = layers.get(tensor, tensor)
        chosen = given_range(layer, overrides)
        if chosen is not None:
            given[tensor] = chosen
        elif tensor not in typed:
            schemes[tensor] = scheme.for_layer(layer, overrides)
    histograms = [tensor for tensor, chosen in schemes.items() if needs_histogram(chosen)]
    found = observe(
        graph,
        samples,
        schemes,
        histograms=histograms,
        also=means.add if means else None,
        progress=progress,
    )
    observed = {
        tensor: calibrated_range(found[tensor], chosen) for tensor, chosen in schemes.items()
    }
    tables = {
        group.tensor: group.first.table
        for group in planned.groups
        if isinstance(group.first, Lookup)
    }
    for tensor, table in tables.items():
        # Samples seldom show all rows of a table, which is known as a whole.
        if tensor in observed and schemes[tensor].calibration is Calibration.MIN_MAX:
            observed[tensor] = float(table.min()), float(table.max())
    return observed | unmasked_ranges(graph, planned, observed | given) | given
