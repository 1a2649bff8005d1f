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
    return weights.load_as(path, "a VQFRv1 or VQFRv2", VQFRv1, VQFRv2, device=device)
