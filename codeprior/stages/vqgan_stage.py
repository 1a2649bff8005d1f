"""The stage that trains one VQGAN: it gives back what it sees, clean images or degraded ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codeprior.images import to_unit
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.stages.accumulated import update_in_parts
from codeprior.stages.pairs import Faces, Measured, training_view
from codeprior.stages.sequential import update_sequentially
from codeprior.stages.settings import VQGANSettings
from codeprior.stages.vqgan import VQGANObjective
from codeprior.training import Batch, Engine, TorchEngine


class VQGANStage:
    """Trains a VQGAN to give back what it sees: degraded images, or clean ones where the settings name no degradation.

    Args:
        recipe: The settings.
        model: The VQGAN.
        size: Side of its images, pixels.
        perceptual: Distance of two signed images.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.
    """

    measured: Measured = "degraded"

    def __init__(
        self,
        recipe: VQGANSettings,
        *,
        model: VQGAN,
        size: int,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        self.recipe: Any = recipe
        engine = engine or TorchEngine(device)
        self.faces = Faces.of(recipe, size=size, device=engine.device)
        self.model = model.to(engine.device)
        self.objective = VQGANObjective(self.model, perceptual.to(engine.device), recipe, engine=engine)

    @property
    def saved(self) -> Mapping[str, nn.Module | Optimizer]:
        """What a checkpoint holds."""
        return self.objective.saved

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What the next stage starts from."""
        return {"vqgan": self.objective.result, "discriminator": self.objective.discriminator}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch; see `VQGANObjective` for the terms."""
        parts = batch.parts(self.recipe.accumulate)
        images = [training_view(self.recipe, self.faces(part), part.keys, step).degraded for part in parts]
        if self.recipe.generator_pass == "sequential":
            return update_sequentially(self.objective, images, step)
        if len(images) > 1:
            return update_in_parts(self.objective, images, step)
        return self.objective.update(images[0], step)

    def answer(self, image: Image) -> Image:
        """Gives what the VQGAN that is handed on makes of signed images."""
        return self.objective.reconstruct(image)

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives what it sees and what it gives back."""
        image = self.faces(batch).degraded
        return {"input": to_unit(image), "reconstruction": to_unit(self.objective.reconstruct(image))}


def going_on(recipe: Any) -> Any:
    """Gives the settings for a VQGAN that has been trained already: it goes on with its codes.

    Codes and the perceptual distance are used from the first step, and k-means does not start the codes anew. Windows
    and the start of the discriminator stay as the settings have them.

    Args:
        recipe: `VQGANSettings`, or what derives from them.
    """
    return replace(recipe, codes_from=0.0, perceptual_from=0.0)
