"""Integer networks as QDQ ONNX models: what ONNX Runtime and other tools take."""

from arraysmith.quantization.onnx_qdq.model import export_qdq, qdq_model

__all__ = ["export_qdq", "qdq_model"]
