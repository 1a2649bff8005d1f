"""Published statistics in files of a few numpy arrays, such as the FID statistics of reference sets."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codeprior import files
from codeprior.checkpoints.machine import Refused

_MAX_BYTES = 2**30


def read_arrays(path: str | Path) -> dict[str, Any]:
    """Reads arrays by name, without running anything.

    Args:
        path: A `.npz`, or a `torch.save` file with a dictionary of arrays, tensors and plain values.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is too large, or holds something else.
    """
    with files.opened(path) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"read_arrays: {path} has more than {_MAX_BYTES:,} bytes.")
    try:
        if content.startswith(b"PK"):
            _check_unpacked(content)
        if content.startswith(b"PK") and Path(path).suffix == ".npz":
            with np.load(BytesIO(content), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        # the reader of weights does not know numpy's arrays
        with torch.serialization.safe_globals(_arrays()):
            found = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # of zip, of numpy's header, of torch's reader: whatever bytes provoke is the file's fault
        reason = str(error) if isinstance(error, Refused) else "holds no arrays by name"
        raise ValueError(f"read_arrays: {path} {reason}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"read_arrays: {path} holds no arrays by name.")
    return found


def _check_unpacked(content: bytes) -> None:
    """Refuses an archive that would take more memory unpacked than is read of any file."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        total = sum(info.file_size for info in archive.infolist())
    if total > _MAX_BYTES:
        raise Refused(f"would have {total:,} bytes unpacked, more than {_MAX_BYTES:,}")


def _arrays() -> list[Any]:
    """Gives what a pickled array needs: BasicSR keeps numpy arrays in its `.pth`, under numpy's old and new names."""
    rebuild = np.zeros(1).__reduce__()[0]
    names = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32")]
    return [*((rebuild, name) for name in names), np.ndarray, np.dtype, *kinds]
