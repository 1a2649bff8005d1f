"""Whether a graph is being traced for a file, told apart from one that is being compiled for this process."""

import torch


def exporting() -> bool:
    """Says whether `torch.export`, `torch.jit.trace` or either ONNX exporter traces; false under `torch.compile`.

    The older ONNX exporter traces as `torch.jit.trace` does. What a traced function calls outside PyTorch would be a
    constant of the graph, without an error.

    While the compiler of PyTorch 2.8 to 2.13 traces, `torch.compiler.is_exporting()` is true as well, so that compiled
    models ran what is written for files: slower ways, and a lookup that does not settle near ties. The flag behind it
    is right in both; where a version has none, its answer is taken.
    """
    exported = torch.compiler._is_exporting_flag if _HAS_FLAG else torch.compiler.is_exporting()
    return exported or torch.jit.is_tracing()


_HAS_FLAG = hasattr(torch.compiler, "_is_exporting_flag")
