"""A restorer from a file or a name: the family that the file names, or that reads its layout, loads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeprior import weights as stored
from codeprior.checkpoints import read_checkpoint
from codeprior.families import find_family, installed_families
from codeprior.restorers.restorer import Restorer


def load_restorer(
    weights: str | Path = "small",
    *,
    family: str | None = None,
    device: str | torch.device = "cpu",
    batch: int = 8,
    options: Mapping[str, Any] | None = None,
) -> Restorer:
    """Gives a restorer with trained weights of any installed family.

    Args:
        weights: The name of weights that a family embeds, such as `small`; a file that `codeprior.save` or `codeprior
            convert` wrote; or a published checkpoint whose layout a family reads. Nothing is downloaded.
        family: Whose model it is; by default what the file or the name says.
        device: Where it runs.
        batch: Faces that go through it at once.
        options: As in `Restorer`.

    Raises:
        FileNotFoundError: There is no such file, and no embedded weights of that name.
        ValueError: No such family is installed, two families embed weights of that name, or the file holds no model
            that restores.

    Example:
        >>> load_restorer("small").size
        128
    """
    families = installed_families() if family is None else (find_family(family),)
    embedding = [one for one in families if str(weights) in one.embedded]
    if len(embedding) > 1:
        names = " and ".join(one.name for one in embedding)
        raise ValueError(f"load_restorer: {names} both embed weights named {weights}; say which family.")
    path = embedding[0].embedded[str(weights)] if embedding else Path(weights)
    if not path.exists():
        there = ", ".join(name for one in families for name in one.embedded) or "none"
        raise FileNotFoundError(
            f"load_restorer: there is no file {path}, and no embedded weights of that name; embedded are: {there}. "
            "Weights are not downloaded here."
        )
    model = _loaded(path, family or (embedding[0].name if embedding else None), device)
    return Restorer(model, device=device, batch=batch, options=options)


def _loaded(path: Path, family: str | None, device: str | torch.device) -> nn.Module:
    if path.suffix == ".safetensors":
        found = stored.read_family(path) if family is None else find_family(family)
        model = stored.load(path, device=device) if found is None else found.load(path, device=device)
    else:
        converted = stored.convert_state(read_checkpoint(path).tensors, family=family)
        if converted is None:
            raise ValueError(f"load_restorer: no installed family reads {path}; see codeprior families.")
        modules = converted[1].modules
        if "restorer" not in modules:
            raise ValueError(f"load_restorer: {path} holds {', '.join(modules)}, which do not restore.")
        model = modules["restorer"]
    if not callable(getattr(model, "restore", None)):
        raise ValueError(f"load_restorer: {path} holds a {type(model).__name__}, which does not restore.")
    return model
