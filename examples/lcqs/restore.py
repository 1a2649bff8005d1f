"""Loading an LCQS from a weights file."""

from pathlib import Path

import torch

from codeprior import weights

from .model import LCQS


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> LCQS:
    """Gives the model of a weights file.

    Args:
        path: Of a file that `codeprior.save` wrote.
        device: Where it runs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no LCQS.
    """
    model = weights.load(path, device=device)
    if not isinstance(model, LCQS):
        raise ValueError(f"load: {path} holds a {type(model).__name__}; an LCQS restores faces.")
    return model
