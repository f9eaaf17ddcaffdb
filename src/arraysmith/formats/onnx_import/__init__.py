"""ONNX files as float graphs, weights and all."""

from arraysmith.formats.onnx_import.network import read_network

__all__ = ["read_network"]
