"""How far an integer layer may be from the float operations that it stands for.

Every layer's integers are turned into reals, the float operations are computed on exactly those in
float64 (weights as their own integers say), and the difference is held to half an output step plus
what rounded biases, clips, shifts and multipliers can make. Derivations stand at each bound.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from float_graphs import samples_of

from arraysmith.learning.float_graph import evaluate
from arraysmith.networks.moves import MOVES, Concat, Pad, Stretch
from arraysmith.networks.operations import Convolution, LayerNorm, Linear, Softmax
from arraysmith.quantization import int8
from arraysmith.quantization.calibration import observe
from arraysmith.quantization.lowering import lower
from arraysmith.quantization.norms import FRACTION, IntegerLayerNorm
from arraysmith.quantization.operations import IntegerAdd, IntegerRequantize
from arraysmith.quantization.plan import plan
from arraysmith.quantization.products import WeightedLayer
from arraysmith.quantization.scheme import Scheme
from arraysmith.quantization.signs import channel_signs

FLOAT = 1e-9
"""Relative: what float64 itself rounds."""


def lowered(graph, scheme=None, overrides=(), *, samples=None, shrink=1.0, ranges=None):
    """(plan, Lowered) of observed ranges times `shrink`, with `ranges` in place of some."""
    scheme = scheme or Scheme()
    choose = partial(scheme.for_layer, overrides=overrides)
    planned = plan(graph, choose)
    found = observe(graph, samples or samples_of(graph), set(planned.observed))
    seen = {name: (shrink * each.low, shrink * each.high) for name, each in found.items()}
    return planned, lower(graph, planned, {**seen, **(ranges or {})}, choose)


def assert_near(graph, scheme=None, *, samples=None, **choices):
    """Every layer of the lowered graph is as near as its arithmetic allows; the integer network."""
    samples = samples or samples_of(graph)
    planned, made = lowered(graph, scheme, samples=samples, **choices)
    network = made.network
    inputs = int8.quantize_inputs(network, samples.arrays)
    words = inputs | {layer.name: y for layer, y in int8.trace(network, inputs)}
    layers = {layer.name: layer for layer in network.layers}
    stands = {each.name: each.name for each in graph.inputs}
    stands |= {tensor: layer for layer, tensor in made.float_names.items()}
    for group in planned.groups:
        layer = layers[stands[group.tensor]]
        given = [
            (network.types[stands[tensor]], words[stands[tensor]]) for tensor in group.first.inputs
        ]
        y, q = network.types[layer.name], words[layer.name]
        _assert_group(group, layer, layers, y=y, given=given, q=q)
    return network


def _reals(type_, q):
    """What integers stand for; row numbers for themselves."""
    return q if type_ is None else type_.dequantize(q)


def _assert_group(group, layer, layers, *, y, given, q):
    """One layer against its group."""
    first, weighted = group.first, isinstance(layer, WeightedLayer)
    if weighted:
        first, error = _with_integer_weights(layer, group)
    real = evaluate(first, *(torch.from_numpy(_reals(*each)) for each in given)).double()
    for operation in group.operations[1:]:
        real = evaluate(operation, real)
    real = real.numpy()
    if not weighted:
        error = _allowance(layer, group, layers, given, real)
    if y is None:
        scale = layer.accumulator_scale if weighted else None
        if scale is not None:
            found = q * (scale if isinstance(first, Linear) else _channels(scale, q.ndim))
            assert np.all(np.abs(found - real) <= error + FLOAT * np.abs(real)), layer.name
        return
    found, ends = y.dequantize(q), y.dequantize([y.qmin, y.qmax])
    # The clamp of the output moves two numbers never further apart.
    real = np.nan_to_num(real, posinf=1e30, neginf=-1e30)
    half = 0.0 if isinstance(layer, MOVES) and not _changes(layer, layers) else y.scale / 2
    allowed = half + error + FLOAT * np.abs(real)
    over = np.abs(found - np.clip(real, *ends)) - allowed
    assert over.max() <= 0, (layer.name, over.max() / y.scale)


def _channels(vector, ndim):
    return vector.reshape(1, -1, *(1,) * (ndim - 2))


def _with_integer_weights(layer, group):
    """The operation with the weights that the integers stand for, and what its bound is.

    A bias, the ends of a clip in the accumulator and a shift are each off by half a unit of the
    accumulator; clipping a number that is off by a half to an end that is off by a half is off by
    no more, and so is the mean over a pool. m/2^n is off by 2^-bits of itself.
    """
    first = group.first
    signs = channel_signs(layer, first)
    weight = layer.centred_weight * layer.weight_scale.reshape(-1, *(1,) * (first.weight.ndim - 1))
    weight = weight * signs.reshape(-1, *(1,) * (first.weight.ndim - 1))
    integer = replace(first, weight=weight, bias=first.bias.astype(np.float64))
    unit = layer.accumulator_scale
    if layer.output is None:
        return integer, _along(unit / 2, first, layer)
    gain = np.ones(len(unit)) if group.affine is None else np.abs(group.affine.gain)
    pooled = layer.pooled
    factor = np.broadcast_to(layer.requantization.multiplier, unit.shape) / 2.0 ** (
        np.broadcast_to(layer.requantization.right_shift, unit.shape)
    )
    worth = factor * layer.output.scale * pooled  # of a unit, behind the gain
    halves = np.where(gain > 0, 0.5, 0.0) + (0.5 if layer.activation else 0.0)
    # The multiplier: relative to what the accumulator can be, an output's reach and its overshoot.
    reach = layer.output.scale * (layer.output.qmax - layer.output.qmin + 1)
    relative = 2.0**-layer.requantization.bits if layer.requantization.bits > 1 else 0.0
    return integer, _along(halves * worth + relative * reach, first, layer)


def _along(error, first, layer):
    """Errors by channel against an output (batch, …)."""
    if isinstance(first, Convolution):
        return error.reshape(-1, *(1,) * len(layer.windows.size))
    return error


def _allowance(layer, group, layers, given, real):
    """What an operation without trained weights may be off by, beyond half a step."""
    first = group.first
    if isinstance(layer, IntegerRequantize):
        inner = layers[layer.inputs[0]]
        return _scaled(layer.requantization, real) + _inner(first, inner, layers, given, real)
    if isinstance(layer, IntegerAdd):
        # Every multiplier is off by half a unit of 2^-n output steps for each step of its term.
        steps = sum(np.abs(q - t.zero_point).max() for t, q in given)
        return layer.output.scale * steps * 2.0 ** -(layer.right_shift + 1)
    if isinstance(layer, IntegerLayerNorm):
        return _layer_norm(layer, first, given)
    if hasattr(layer, "requantization"):
        return _scaled(layer.requantization, real)
    return _inner(first, layer, layers, given, real)


def _scaled(constants, real):
    """m/2^n is off by at most 2^-bits of itself, or half a unit of 2^-62."""
    return np.abs(real) * 2.0**-constants.bits + 2.0**-31


def _inner(first, layer, layers, given, real):
    if isinstance(first, Softmax):
        # Entries are off by 2^-17; of N entries, whose sum is at least 1, so is the quotient.
        return (1 + given[0][1].shape[first.axis + 1]) * 2.0**-17 + layer.output.scale
    if isinstance(first, Concat):
        found = (_scaled(each.requantization, real).max() for each in _changes(layer, layers))
        return max(found, default=0.0)
    if isinstance(first, Pad | Stretch):
        return given[0][0].scale / 2  # the value that is filled in
    return 0.0


def _changes(layer, layers):
    """The changes of scale right before a concatenation."""
    made = [layers[name] for name in layer.inputs if name in layers]
    changed = [each for each in made if isinstance(each, IntegerRequantize)]
    return changed if isinstance(layer, Concat) else []


def _layer_norm(layer, norm: LayerNorm, given):
    """The root is off by less than 1 of r, epsilon by half, t by 2^-15, a multiplier by 2^-n / 2.

    r >= 1 is N times the deviation in steps: a root rounded down makes t larger by 1/(r - 1).
    """
    (x, q), size = given[0], norm.gain.size
    d = size * q - q.sum(-1, keepdims=True)
    exact = np.sqrt(((d**2).sum(-1, keepdims=True) + size**3 * norm.epsilon / x.scale**2) / size)
    t = np.abs(d) / np.maximum(exact, 1e-300)
    root = np.where(exact > 2, t * 1.5 / np.maximum(exact - 1.5, 0.5), np.abs(d) + t)
    n, s = layer.right_shift, layer.output.scale
    halves = (root + t) * 2.0**FRACTION + 2
    return np.abs(norm.gain) * (root + 2.0 ** -(FRACTION + 1)) + s * halves * 2.0 ** -(n + 1)
