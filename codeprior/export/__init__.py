"""Models as files that run without this library: ONNX for any runtime, and `.pt2` for plain PyTorch."""

from codeprior.export.export import FORMATS, Exported, export_model
from codeprior.export.parity import Parity
from codeprior.export.trace import Program, trace

__all__ = ["FORMATS", "Exported", "Parity", "Program", "export_model", "trace"]
