"""Transformers of the package `transformers` with random weights."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# Nothing is fetched: the architecture is the package's, the weights are drawn.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if TYPE_CHECKING:
    from torch import nn


def small_vit(attention: str = "sdpa") -> nn.Module:
    """A vision transformer of two layers with random weights; images (batch, 3, 32, 32)."""
    return vit(
        attention,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=32,
        patch_size=8,
    )


def vit(attention: str = "sdpa", **sizes: int) -> nn.Module:
    """transformers' ViT, of base size unless told, with random weights."""
    from transformers import ViTConfig, ViTModel

    network = ViTModel(ViTConfig(**sizes))
    network.set_attn_implementation(attention)
    return network.eval()


def small_bert(attention: str = "sdpa") -> nn.Module:
    """A BERT of two layers with random weights; row numbers (batch, up to 64) of 100 words."""
    return bert(
        attention,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        vocab_size=100,
        max_position_embeddings=64,
    )


def bert(attention: str = "sdpa", **sizes: int) -> nn.Module:
    """transformers' BERT, of base size unless told, with random weights."""
    from transformers import BertConfig, BertModel

    network = BertModel(BertConfig(**sizes))
    network.set_attn_implementation(attention)
    return network.eval()
