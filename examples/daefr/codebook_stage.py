"""Stages 1a and 1b: a VQGAN learns what clean faces, or degraded ones, are made of."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codeprior import distributed, to_unit
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.training import Batch, Engine, TorchEngine

from .data import Faces, Pair, windows
from .model import vqgan
from .objective import Objective
from .recipes import CodebookRecipe, going_on
from .updates import rate_at, with_skipped


class CodebookStage:
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
        self.recipe = recipe = recipe if start is None else going_on(recipe)
        engine = engine or TorchEngine(device)
        device = engine.device
        network = recipe.network
        self.faces = Faces(
            size=network.size, degradation=recipe.degradation, degradation_size=recipe.degradation_size, device=device
        )
        self.model = vqgan(network).to(device)
        if start is not None:
            self.model.load_state_dict(start.state_dict())
        self.objective = Objective(self.model, perceptual.to(device), recipe, engine=engine)

    @property
    def saved(self) -> Mapping[str, nn.Module | Optimizer]:
        """What a checkpoint holds."""
        return self.objective.saved

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What the next stage starts from."""
        return {"vqgan": self.objective.result, "discriminator": self.objective.discriminator}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch; see `Objective` for the terms."""
        parts = batch.parts(self.recipe.accumulate)
        images = [seen(self.recipe, self.faces(part), part.keys, step).degraded for part in parts]
        self.objective.begin(step)
        self.objective.set_rate(rate_at(self.recipe, step))
        passed, skipped = self.objective.step_generator(images, step)
        metrics = self.objective.finish(passed, step)
        sequential = self.recipe.generator_pass == "sequential"
        fakes = self.objective.again(images, step) if sequential else [one.fake for one in passed]
        metrics |= self.objective.step_discriminator(images, fakes, step)
        self.objective.follow_average()
        return with_skipped(metrics, skipped)

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives what it sees and what it gives back."""
        image = self.faces(batch).degraded
        return {"input": to_unit(image), "reconstruction": to_unit(self.objective.reconstruct(image))}


def seen(recipe: CodebookRecipe, pair: Pair, keys: Tensor, step: int) -> Pair:
    """Gives what a step trains on: windows of the pair while the recipe asks for them, then whole images."""
    if recipe.crop is None or step >= recipe.crop_until * recipe.steps:
        if recipe.whole_batch is None:
            return pair
        count = max(1, recipe.whole_batch // (recipe.accumulate * distributed.world()))
        return Pair(*(images[:count] for images in pair))
    return windows(pair, recipe.crop, keys)
