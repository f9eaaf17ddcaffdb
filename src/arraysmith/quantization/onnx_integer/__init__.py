"""Integer networks as ONNX models of integer operators alone, and what runs them."""

from arraysmith.quantization.onnx_integer.model import export_integer, integer_model
from arraysmith.quantization.onnx_integer.runtime import LEVELS, Level, run_integer

__all__ = ["LEVELS", "Level", "export_integer", "integer_model", "run_integer"]
