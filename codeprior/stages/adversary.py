"""The other half of a GAN's step: a discriminator that learns, R1 every few steps, and the path length of a generator.

A logistic discriminator in the manner of StyleGAN2, for the stages of families that train one. Source: Karras et al.
2020 (StyleGAN2), whose penalties are counted lazily: every few steps, as many times heavier.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from codeprior.discriminators import Judged, StyleGANDiscriminator, WaveletDiscriminator
from codeprior.losses import logistic_discriminator_loss, path_length_penalty, path_lengths, r1_penalty
from codeprior.shapes import Image
from codeprior.stages.settings import StageSettings
from codeprior.stages.updates import gradients_of_gradients, set_rate, without_graph
from codeprior.training import Engine, WeightAverage, step_if_finite


@dataclass(frozen=True, kw_only=True, slots=True)
class AdversarySettings(StageSettings):
    """What the stages of a StyleGAN share; the defaults are StyleGAN2's."""

    betas: tuple[float, float] = (0.0, 0.99 ** (4 / 5))
    discriminator_rate: float = (16 / 17) / (4 / 5)  # times the rate
    discriminator_betas: tuple[float, float] = (0.0, 0.99 ** (16 / 17))
    r1_weight: float = 10.0  # half of it counts
    r1_every: int = 16  # steps; 0: never
    path_weight: float = 2.0
    path_every: int = 4  # steps; 0: never
    path_decay: float = 0.01  # of the running mean of path lengths
    average: float | None = 0.5 ** (32 / 10_000)
    weights: Mapping[str, float] = field(default_factory=dict)


class Adversary:
    """A discriminator and its optimiser, which learns at every step of a stage.

    Args:
        settings: Rates, betas and R1.
        discriminator: What tells real images from made ones.
        engine: What distributes.

    Attributes:
        discriminator: The bare module.

    Raises:
        ValueError: The settings ask for a batch in parts: the discriminator compares the samples of a batch.
    """

    def __init__(
        self, settings: AdversarySettings, discriminator: StyleGANDiscriminator | WaveletDiscriminator, engine: Engine
    ):
        if settings.accumulate != 1:
            raise ValueError(
                f"Adversary: accumulate is {settings.accumulate}, but this discriminator compares the samples of a "
                "batch, so that parts of one are not the same; set accumulate=1 and a smaller batch."
            )
        self.settings, self.engine, self.discriminator = settings, engine, discriminator
        self.judge = engine.wrap(discriminator)
        self.optimizer = Adam(
            discriminator.parameters(), lr=settings.learning_rate * settings.discriminator_rate,
            betas=settings.discriminator_betas,
        )  # fmt: skip

    def learn(self, real: Image, fake: Image, step: int, rate: float) -> dict[str, Tensor]:
        """Lets the discriminator make one step, and every few steps another one of R1.

        Args:
            real: Signed.
            fake: Made ones, signed, with or without a graph.
            step: Number of the update.
            rate: Of the generator at this step.

        Returns:
            `discriminator`, its loss, `r1` at the steps that have it, and `skipped`.
        """
        set_rate(self.optimizer, rate * self.settings.discriminator_rate)
        self.optimizer.zero_grad(set_to_none=True)
        loss = logistic_discriminator_loss(self.judge(real), self.judge(fake.detach()))
        self.engine.backward([loss])
        found = {"discriminator": loss.detach(), "skipped": step_if_finite(self.optimizer)}
        if self.settings.r1_every and step % self.settings.r1_every == 0:
            self.optimizer.zero_grad(set_to_none=True)
            images = real.detach().requires_grad_()
            with gradients_of_gradients():
                scores = self.judge(images)
            penalty = r1_penalty(scores, images)
            # ranks wait for a gradient of every parameter, also of the last bias, on which R1 does not depend
            weighted = self.settings.r1_weight / 2 * self.settings.r1_every * penalty + 0 * scores.sum()
            self.engine.backward([weighted])
            found["r1"] = penalty.detach()
            found["skipped"] = torch.maximum(found["skipped"], step_if_finite(self.optimizer))
        return found

    def judged(self, image: Image) -> Judged:
        """Gives what it says of images, with a graph to them and none to its own weights.

        Args:
            image: Signed.
        """
        with without_graph(self.discriminator):
            return self.discriminator.judge(image)

    def saved(
        self, *, model: nn.Module, optimizer: Optimizer, path: "PathLength", average: WeightAverage
    ) -> dict[str, Any]:
        """Gives what a checkpoint holds of a stage that trains a generator against it.

        Args:
            model: The generator, or the restorer around it.
            optimizer: Of that.
            path: The running mean of its path lengths.
            average: Of its weights.
        """
        return {"model": model, "optimizer": optimizer, "path": path, **self.saved_alone(), **average.parts}

    def saved_alone(self) -> dict[str, Any]:
        """Gives what a checkpoint holds of the discriminator, for a stage that has its own names for the rest."""
        return {"discriminator": self.discriminator, "discriminator_optimizer": self.optimizer}


class PathLength(nn.Module):
    """The running mean of path lengths, and the penalty against it.

    Args:
        settings: Weight, decay, and every how many steps.
        engine: What distributes: the running mean is that of all ranks.
    """

    mean: Tensor

    def __init__(self, settings: AdversarySettings, engine: Engine):
        super().__init__()
        self._engine = engine
        self.weight, self.every, self.decay = settings.path_weight, settings.path_every, settings.path_decay
        self.register_buffer("mean", torch.zeros(()))

    def due(self, step: int) -> bool:
        """Says whether the penalty is counted at a step."""
        return bool(self.every) and step % self.every == 0

    def forward(self, images: Image, styles: Float[Tensor, "b n d"], generator: torch.Generator) -> Tensor:
        """Gives the weighted penalty; the running mean moves.

        Args:
            images: That were made of `styles`.
            styles: With their graph.
            generator: Where the random direction comes from.
        """
        lengths = path_lengths(images, styles, generator=generator)
        found = path_length_penalty(lengths, self.mean, decay=self.decay)
        self.mean.copy_(self._engine.mean(found.mean))
        # ranks wait for a gradient of every parameter, also of those that only move all pixels alike
        return self.weight * self.every * found.penalty + 0 * images.sum()

    def learn(
        self, images: Image, styles: Float[Tensor, "b n d"], generator: torch.Generator, *, optimizer: Optimizer
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Moves what made the images by the penalty alone; gives the penalty and what `step_if_finite` gives.

        Args:
            images: As in `forward`.
            styles: As in `forward`.
            generator: As in `forward`.
            optimizer: Of what made the images; its gradients are dropped before.
        """
        optimizer.zero_grad(set_to_none=True)
        penalty = self(images, styles, generator)
        self._engine.backward([penalty])
        return penalty.detach(), step_if_finite(optimizer)
