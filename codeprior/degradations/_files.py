"""Writing tensors so that a file is there whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from codeprior import files


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, overwrite: bool = True) -> None:
    """Writes tensors as safetensors, whole or not at all."""
    from safetensors.torch import save

    files.write(path, save({key: value.contiguous() for key, value in tensors.items()}), overwrite=overwrite)
