"""Stages 1a and 1b: a VQGAN learns what clean faces, or degraded ones, are made of."""

import torch
from torch import nn

from codeprior._renamed import moved
from codeprior.prior import VQGAN
from codeprior.stages import VQGANStage, going_on
from codeprior.training import Engine

from .model import vqgan
from .settings import CodebookRecipe


class CodebookStage(VQGANStage):
    """One VQGAN trained to give back what it sees: clean faces in stage 1a, degraded ones in stage 1b.

    Args:
        recipe: The configuration.
        perceptual: Distance of two signed images.
        start: A VQGAN of the recipe's sizes whose weights and codes training goes on from, by `going_on(recipe)`; they
            are drawn without it.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.
    """

    def __init__(
        self,
        recipe: CodebookRecipe,
        *,
        perceptual: nn.Module,
        start: VQGAN | None = None,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        recipe, model = (recipe if start is None else going_on(recipe)), vqgan(recipe.network)
        if start is not None:
            model.load_state_dict(start.state_dict())
        super().__init__(
            recipe, model=model, size=recipe.network.size, perceptual=perceptual, device=device, engine=engine
        )


__getattr__ = moved(__name__, "codeprior.stages.pairs", ("seen",), renamed={"seen": "training_view"})
