"""Restoring with a trained DAEFR: aligned faces in any of Python's picture types, or whole photographs.

from codeprior.recipes.daefr import load
restorer = load("small")
restorer(image)                      # an aligned face: PIL image, array or tensor, one or many
restorer.photograph(picture)         # faces found, restored and pasted back
"""

from pathlib import Path

import torch

from codeprior import weights
from codeprior.restorers import Restorer, load_restorer

from .model import DAEFR, SingleEncoder

__all__ = ["EMBEDDED", "Restorer", "load", "load_model"]

EMBEDDED = {
    path.stem.removeprefix("daefr_"): path
    for path in sorted((Path(__file__).parent / "weights").glob("daefr_*.safetensors"))
}
"""Weights that come with the package, by name."""


def load(name: str | Path = "small", *, device: str | torch.device = "cpu", batch: int = 8) -> Restorer:
    """Gives a restorer with trained weights.

    Args:
        name: `small`, the embedded prior (128 pixels, CC BY 4.0), or the path of
            a weights file that `codeprior.save` or `codeprior convert` wrote, or of a released checkpoint.
        device: Where it runs.
        batch: Faces that go through it at once.

    Raises:
        FileNotFoundError: There is no such file; nothing is ever downloaded here.
        ValueError: The file holds no restoration model of this family.
    """
    return load_restorer(name, family="daefr", device=device, batch=batch)


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> DAEFR | SingleEncoder:
    """Gives the model of a weights file.

    Args:
        path: Of a file that `codeprior.save` or `codeprior convert` wrote.
        device: Where it runs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no restoration model of this family.
    """
    return weights.load_as(path, "a DAEFR or SingleEncoder", DAEFR, SingleEncoder, device=device)
