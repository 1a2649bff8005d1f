"""Writing tensors so that a file is there whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors as safetensors through a file beside the target."""
    from safetensors.torch import save_file

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, name)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
