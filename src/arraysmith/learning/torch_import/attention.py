"""torch's own attention module with the batch first throughout, while it is exported.

`nn.MultiheadAttention` moves the batch behind the sequence and folds it into the heads, which no
graph with a batch of its own can follow. The same arithmetic needs neither.
"""

from __future__ import annotations

import contextlib
import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

Mask = torch.Tensor | None


@contextlib.contextmanager
def batch_first(module: nn.Module) -> Iterator[None]:
    """Attention modules that take the batch first keep it first; afterwards all are as before."""
    attending = [each for each in module.modules() if isinstance(each, nn.MultiheadAttention)]
    replaced = [each for each in attending if _is_plain(each)]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(value=False)  # it would hide the layers
        for each in replaced:
            each.__dict__["forward"] = partial(_attended, each)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(value=fast)
        for each in replaced:
            del each.__dict__["forward"]


def _is_plain(module: nn.MultiheadAttention) -> bool:
    return (
        type(module) is nn.MultiheadAttention
        and "forward" not in module.__dict__
        and module.batch_first
        and bool(module._qkv_same_embed_dim)  # noqa: SLF001 (else there are three weights)
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _attended(
    module: nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    key_padding_mask: Mask = None,
    need_weights: bool = True,
    attn_mask: Mask = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the module gives for (batch, length, width): outputs, and weights if wanted."""
    if (
        query.ndim != 3
        or key_padding_mask is not None
        or (attn_mask is not None and attn_mask.ndim != 2)
    ):
        given: tuple[torch.Tensor, torch.Tensor | None] = nn.MultiheadAttention.forward(
            module,
            query,
            key,
            value,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return given
    q, k, v = _projected(module, query, key, value)
    scores = q @ k.transpose(2, 3) * (1 / math.sqrt(module.head_dim))
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        scores = scores.masked_fill(attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = scores.softmax(-1)
    output = module.out_proj((weights @ v).transpose(1, 2).flatten(2))
    if not need_weights:
        return output, None
    return output, weights.mean(1) if average_attn_weights else weights


def _projected(module: nn.MultiheadAttention, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Query, key and value as (batch, heads, length, width of a head)."""
    bias: torch.Tensor | None = getattr(module, "in_proj_bias", None)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return [
        nn.functional.linear(x, weight, bias)
        .unflatten(-1, (module.num_heads, module.head_dim))
        .transpose(1, 2)
        for x, weight, bias in zip(tensors, module.in_proj_weight.chunk(3), biases, strict=True)
    ]
