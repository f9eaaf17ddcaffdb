"""Integer networks as ONNX models of integer operators alone; `onnx_session` runs them."""

from arraysmith.quantization.onnx_integer.model import export_integer, integer_model

__all__ = ["export_integer", "integer_model"]
