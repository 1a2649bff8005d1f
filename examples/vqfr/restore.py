"""Loading a VQFR from a weights file."""

from pathlib import Path

import torch

from codeprior import weights

from .model import VQFRv1, VQFRv2


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> VQFRv1 | VQFRv2:
    """Gives the model of a weights file.

    Args:
        path: Of a file that `codeprior.save` or `codeprior convert` wrote.
        device: Where it runs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no VQFR.
    """
    model = weights.load(path, device=device)
    if not isinstance(model, (VQFRv1, VQFRv2)):
        raise ValueError(f"load: {path} holds a {type(model).__name__}; a VQFRv1 or VQFRv2 restores faces.")
    return model
