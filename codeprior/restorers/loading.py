"""A restorer from a file or a name: the family that the file names, or that reads its layout, loads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeprior import weights as stored
from codeprior.checkpoints import read_checkpoint
from codeprior.families import find_family, installed_families
from codeprior.restorers.exported import OnnxModel
from codeprior.restorers.restorer import Restorer

_EMBEDDED = "small"  # the default: weights in the package


def load_restorer(
    weights: str | Path = _EMBEDDED,
    *,
    family: str | None = None,
    device: str | torch.device = "cpu",
    batch: int = 8,
    options: Mapping[str, Any] | None = None,
) -> Restorer:
    """Gives a restorer with trained weights of any installed family.

    Args:
        weights: The name of weights that a family embeds, such as `small`; a file that `codeprior.save` or `codeprior
            convert` wrote; a published checkpoint whose layout a family reads; or an ONNX file that `codeprior export`
            wrote. Nothing is downloaded.
        family: Whose model it is; by default what the file or the name says.
        device: Where it runs.
        batch: Faces that go through it at once.
        options: As in `Restorer`.

    Raises:
        FileNotFoundError: There is no such file, and no embedded weights of that name.
        ImportError: The file is ONNX, and onnxruntime is not installed.
        ValueError: No such family is installed, two families embed weights of that name, or the file holds no model
            that restores.

    Example:
        >>> load_restorer("small").size
        128
    """
    model = load_model(weights, family=family, device=device)
    return Restorer(model, device=device, batch=batch, options=options)


def load_model(
    weights: str | Path = _EMBEDDED, *, family: str | None = None, device: str | torch.device = "cpu"
) -> nn.Module:
    """Gives the model of trained weights of any installed family, as `load_restorer` finds it.

    Args:
        weights: As in `load_restorer`.
        family: As in `load_restorer`.
        device: Where it runs.

    Raises:
        FileNotFoundError: There is no such file, and no embedded weights of that name.
        ImportError: The file is ONNX, and onnxruntime is not installed.
        ValueError: No such family is installed, two families embed weights of that name, or the file holds no model
            that restores.
    """
    families = installed_families() if family is None else (find_family(family),)
    embedding = [one for one in families if str(weights) in one.embedded]
    if len(embedding) > 1:
        names = " and ".join(one.name for one in embedding)
        raise ValueError(f"load_restorer: {names} both embed weights named {weights}; say which family.")
    path = embedding[0].embedded[str(weights)] if embedding else Path(weights)
    # a folder that happens to have the name of embedded weights is not meant by that name
    if not path.exists() or (str(weights) == _EMBEDDED and not embedding and path.is_dir()):
        there = ", ".join(name for one in families for name in one.embedded) or "none"
        raise FileNotFoundError(
            f"load_restorer: there is no file {path}, and no embedded weights of that name; embedded are: {there}. "
            "Weights are not downloaded here."
        )
    return _loaded(path, family or (embedding[0].name if embedding else None), device)


def _loaded(path: Path, family: str | None, device: str | torch.device) -> nn.Module:
    if path.suffix == ".onnx":
        return OnnxModel(path, device=device)
    if path.suffix == ".safetensors":
        found = stored.read_family(path) if family is None else find_family(family)
        model = stored.load(path, device=device) if found is None else found.load(path, device=device)
    else:
        read = read_checkpoint(path)
        converted = stored.convert_state(read.tensors, family=family)
        if converted is None:
            raise ValueError(f"load_restorer: no installed family reads {path}; see codeprior families.")
        modules = converted[1].modules
        if "restorer" not in modules:
            raise ValueError(f"load_restorer: {path} holds {', '.join(modules)}, which do not restore.")
        model = modules["restorer"].to(device)
        stored.remember_origin(model, {"source": path.name, "source_sha256": read.sha256})
    if not callable(getattr(model, "restore", None)):
        raise ValueError(f"load_restorer: {path} holds a {type(model).__name__}, which does not restore.")
    return model
