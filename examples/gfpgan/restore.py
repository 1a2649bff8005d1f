"""Loading a GFP-GAN from a weights file."""

from pathlib import Path

import torch

from codeprior import weights

from .model import GFPGAN


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> GFPGAN:
    """Gives the model of a weights file.

    Args:
        path: Of a file that `codeprior.save` or `codeprior convert` wrote.
        device: Where it runs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no GFP-GAN.
    """
    return weights.load_as(path, "a GFPGAN", GFPGAN, device=device)
