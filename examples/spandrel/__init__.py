"""Face models that only spandrel knows, such as GFPGAN, as a family: `codeprior restore --recipe spandrel`."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from codeprior.families import Converted, Family, Layout

__all__ = ["FAMILY"]


def load(path: str | Path, *, device: str | torch.device = "cpu") -> nn.Module:
    """Gives the model of a checkpoint that spandrel knows; see `codeprior.restorers.load_peer`."""
    from codeprior.restorers import load_peer

    return load_peer(path, device=device).model


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Gives the model that spandrel makes of tensors; see `codeprior.restorers.peer_of`."""
    from codeprior.restorers import peer_of

    return Converted({"restorer": peer_of(state)}, {}, "")


def _only_when_asked(_state: Mapping[str, Tensor]) -> bool:
    # whatever else spandrel takes a file for, a family that reads the file itself comes first
    return False


FAMILY = Family(
    name="spandrel",
    load=load,
    text="models of other projects that the package spandrel loads, such as GFPGAN (pip install 'codeprior[spandrel]')",
    layouts=(Layout("spandrel", _only_when_asked, convert),),
)
