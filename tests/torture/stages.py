"""The four real stages of DAEFR, so small that a run of forty steps takes seconds."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from codeprior.recipes.daefr.association_stage import AssociationStage
from codeprior.recipes.daefr.codebook_stage import CodebookStage
from codeprior.recipes.daefr.model import vqgan
from codeprior.recipes.daefr.restoration_stage import RestorationStage
from codeprior.recipes.daefr.settings import (
    CodebookRecipe,
    Network,
    association_small,
    hq_codebook_small,
    lq_codebook_small,
    restoration_small,
)
from codeprior.stages import Pair
from codeprior.training import Engine, ImageFolder, Stream
from tests.training.toy import write_faces

NAMES = ("hq", "lq", "association", "restoration")
SIZE = 32
TINY = Network(
    size=SIZE, dim=4, codes=8, channels=4, multipliers=(1, 2, 2), encoder_blocks=1, decoder_blocks=1, attention=(),
    groups=2, fusion_groups=2, fusion_heads=2, codebook="moving_average", width=8, layers=1, heads=2, hidden=8,
)  # fmt: skip


class Edges(nn.Module):
    """A perceptual distance small enough for here: mean absolute difference of a fixed random convolution."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1))
        self.register_buffer("weight", weight)

    def forward(self, first, second):
        return nn.functional.conv2d(first - second, self.weight.to(first.dtype), padding=1).abs().mean()


def recipe(name: str, **changes):
    """Gives a stage's small recipe at the tiny size, with its adversarial part switched on in the middle of the run."""
    if name == "restoration":
        tiny = replace(restoration_small(), network=TINY, degradation_size=SIZE, batch=4, steps=40)
        return replace(tiny, **changes)
    source = {"hq": hq_codebook_small, "lq": lq_codebook_small, "association": association_small}[name]()
    tiny = replace(
        source, network=TINY, degradation_size=SIZE, batch=4, steps=40, adversarial_start=10, adversarial_from=None,
        crop=16, crop_until=0.5, whole_batch=None,
        discriminator_channels=4, discriminator_layers=1,
    )  # fmt: skip
    return replace(tiny, **changes)


def stage(
    name: str,
    *,
    engine: Engine | None = None,
    seed: int = 0,
    teacher: int = 0,
    dtype: torch.dtype = torch.float32,
    **changes,
):
    """Gives a fresh stage; equal seeds give equal weights.

    Args:
        name: One of `NAMES`.
        engine: What distributes.
        seed: Of everything that trains.
        teacher: Seed of the frozen network of the last stage, which a run reads from a file and never saves.
        dtype: Of weights and images.
        **changes: To the recipe.
    """
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(teacher)
        frozen = _started(vqgan(TINY))
        torch.manual_seed(seed)
        made = _made(name, engine, changes, frozen)
    finally:
        torch.set_default_dtype(torch.float32)
    if dtype != torch.float32:
        faces = made.faces
        made.faces = lambda batch: Pair(*(image.to(dtype) for image in faces(batch)))
    return made


def _made(name: str, engine: Engine | None, changes, teacher: nn.Module):
    settings = recipe(name, **changes)
    if isinstance(settings, CodebookRecipe) and name != "association":
        return CodebookStage(settings, perceptual=Edges(), engine=engine)
    hq, lq = (_started(vqgan(settings.network)) for _ in range(2))
    if name == "association":
        return AssociationStage(settings, hq=hq, lq=lq, perceptual=Edges(), engine=engine)
    return RestorationStage(settings, teacher=teacher, hq=hq, lq=lq, engine=engine)


def stream(folder: Path, *, batch: int = 4, workers: int = 0) -> Stream:
    """Gives the stream over eleven tiny faces, written on first use."""
    if not folder.exists():
        write_faces(folder, count=11, size=SIZE)
    return Stream(ImageFolder(folder, size=SIZE), batch=batch, seed=5, workers=workers)


def digest(made, *, local: bool = True) -> str:
    """Gives one hash over everything a stage saves: weights, running statistics, moving averages, moments.

    Args:
        made: The stage.
        local: Whether running statistics count too, which are each rank's own.
    """
    found = hashlib.sha256()
    for name, part in sorted(made.saved.items()):
        found.update(name.encode())
        for key, value in sorted(part.state_dict().items()):
            if local or "running_" not in key:
                for tensor in _tensors(value):
                    found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def _started(model: nn.Module) -> nn.Module:
    # codes of a fresh table lie in a point; spread, they are all used
    model.codebook.weight.data.normal_(generator=torch.Generator().manual_seed(2))
    return model


def _tensors(state):
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for key in sorted(state, key=str):
            yield from _tensors(state[key])
    elif isinstance(state, (list, tuple)):
        for item in state:
            yield from _tensors(item)
