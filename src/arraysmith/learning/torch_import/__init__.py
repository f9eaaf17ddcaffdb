"""Torch modules as float graphs, through `torch.export`."""

from arraysmith.learning.torch_import.network import from_torch

__all__ = ["from_torch"]
