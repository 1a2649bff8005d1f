"""Restoring with a trained DAEFR: aligned faces in any of Python's picture types, or whole photographs.

from codeprior.recipes.daefr import load
restorer = load("small")
restorer(image)                      # an aligned face: PIL image, array or tensor, one or many
restorer.photograph(picture)         # faces found, restored and pasted back
"""

from pathlib import Path

import torch

from codeprior.restorers import Restorer

__all__ = ["Restorer", "load"]


def load(name: str | Path = "small", *, device: str | torch.device = "cpu", batch: int = 8) -> Restorer:
    """Gives a restorer with trained weights.

    Args:
        name: `small`, the embedded prior (128 pixels, CC BY 4.0), or the path of
            a weights file that `codeprior.save` or `codeprior convert` wrote.
        device: Where it runs.
        batch: Faces that go through it at once.

    Raises:
        FileNotFoundError: There is no such file; nothing is ever downloaded here.
        ValueError: The file holds no restoration model of this recipe.
    """
    from codeprior.weights import load as load_module

    from .model import DAEFR, SingleEncoder

    folder = Path(__file__).parent / "weights"
    path = folder / f"daefr_{name}.safetensors" if name == "small" else Path(name)
    if not path.exists():
        there = ", ".join(sorted(file.stem.removeprefix("daefr_") for file in folder.glob("daefr_*.safetensors")))
        raise FileNotFoundError(
            f"load: there is no file {path}, and no embedded prior of that name; embedded are: {there}. Weights are "
            "not downloaded here."
        )
    model = load_module(path, device=device)
    # not by class: the same files are two packages, `examples` and `codeprior.recipes`
    if type(model).__name__ not in (DAEFR.__name__, SingleEncoder.__name__):
        raise ValueError(f"load: {path} holds a {type(model).__name__}; a DAEFR or SingleEncoder restores faces.")
    return Restorer(model, device=device, batch=batch)
