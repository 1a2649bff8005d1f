"""The second stage: faces are carried to the other quality and back, and discriminators judge what they look like."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from codeprior.discriminators import StyleGANDiscriminator
from codeprior.images import to_unit
from codeprior.losses import logistic_discriminator_loss, logistic_generator_loss, r1_penalty
from codeprior.shapes import Image
from codeprior.stages import gradients_of_gradients, rate_at, weighted
from codeprior.training import Batch, Engine, Source, Stream, WeightAverage, full, step_if_finite

from .encoder_stage import set_rates, trained, trained_generator
from .model import LCQS
from .settings import ShiftSettings
from .unpaired import Sides, UnpairedStage

_TERMS = (
    "adversarial", "cycle", "cycle_perceptual", "cycle_texture", "rebuilt", "rebuilt_perceptual", "rebuilt_texture",
    "latent", "damage",
)  # fmt: skip


class Translated(NamedTuple):
    """Everything that a step makes of its two sides.

    Attributes:
        restored: Of the degraded faces, with the shift.
        degraded: Of the clean faces, against the shift.
        there_and_back: The clean, then the degraded faces after both ways, `2b 3 S S`.
        rebuilt: The degraded faces without a shift.
        latent: Mean squared distance of the styles after both ways from those before.
    """

    restored: Image
    degraded: Image
    there_and_back: Image
    rebuilt: Image
    latent: Float[Tensor, ""]


class ShiftStage(UnpairedStage):
    """Trains the shift and the encoder of degraded faces, and what else the settings give a rate.

    Args:
        settings: The configuration.
        model: With encoders of the first stage.
        low: Pictures of the low side, as many a step as the settings say.
        perceptual: Distance of two signed images; for terms of texture, a `PerceptualLoss`.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The low side has another batch, a weight has no term, or the batch is to be worked on in parts.
    """

    def __init__(
        self,
        settings: ShiftSettings,
        *,
        model: LCQS,
        low: Stream,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        super().__init__(settings, low=low, perceptual=perceptual, terms=_TERMS, device=device, engine=engine)
        if settings.r1_every < 1:
            raise ValueError(f"LCQS: expected r1_every of 1 step or more, got {settings.r1_every}.")
        model.requires_grad_(False)
        groups = [
            {"params": trained(model.low), "scale": 1.0},
            {"params": trained(model.shift), "scale": settings.shift_rate},
        ]
        if settings.high_rate:
            groups.append({"params": trained(model.high), "scale": settings.high_rate})
        if settings.generator_rate:
            groups.append({"params": trained_generator(model), "scale": settings.generator_rate})
        self.model = model.to(self.engine.device)
        self.network = self.engine.wrap(_Translation(model))
        sizes = settings.network
        self.judges = Judges(
            *(
                StyleGANDiscriminator(
                    sizes.size, multiplier=sizes.multiplier, narrow=sizes.discriminator_narrow,
                    group=sizes.discriminator_group,
                )
                for _ in range(2)
            )
        )  # fmt: skip
        self.judging = self.engine.wrap(self.judges)
        self.optimizer = Adam(groups, lr=settings.learning_rate, betas=settings.betas)
        judges = [{"params": list(self.judges.parameters()), "scale": settings.discriminator_rate}]
        self.judges_optimizer = Adam(judges, lr=settings.learning_rate, betas=settings.betas)
        self.average = WeightAverage(model, decay=settings.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.model, "judges": self.judges, "optimizer": self.optimizer,
            "judges_optimizer": self.judges_optimizer, **self.average.parts,
        }  # fmt: skip

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores faces."""
        return {"restorer": self.result}

    @torch.no_grad()
    def begin(self, high: Source) -> None:
        """Begins the shift at the mean clean styles minus the degraded ones, given their damage.

        Args:
            high: Clean faces; those of the low side are the stage's own.
        """
        if not self.recipe.start_faces:
            return
        clean, degraded, damage = [], [], []
        for side in self.unpaired.first(high, self.recipe.start_faces):
            clean.append(self.model.high(side.high))
            degraded.append(self.model.low(side.low))
            damage.append(self.model.damage(side.low))
        wanted = torch.cat(clean).mean(0) - torch.cat(degraded)
        self.model.shift.begin_at(wanted, torch.cat(damage))
        for value in self.model.shift.parameters():
            value.copy_(self.engine.broadcast(value.detach()))
        self.result.shift.load_state_dict(self.model.shift.state_dict())

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch of each side: first what translates, then the discriminators."""
        rate = rate_at(self.recipe, step)
        for optimizer in (self.optimizer, self.judges_optimizer):
            set_rates(optimizer, rate)
            optimizer.zero_grad(set_to_none=True)
        sides = self.unpaired(batch, step)
        with torch.no_grad():
            damage = self.model.damage(sides.low)
        with self.engine.autocast():
            made = self.network(*sides, damage)
        made = Translated(*map(full, made))
        terms = self.terms(made, sides, damage)
        total = weighted(terms, self.recipe.weights)
        self.engine.backward([total])
        skipped = step_if_finite(self.optimizer, clip=self.recipe.clip)
        judged = self._judge(sides, made, penalised=step % self.recipe.r1_every == 0)
        skipped = torch.maximum(skipped, step_if_finite(self.judges_optimizer, clip=self.recipe.clip))
        self.average.update()
        logged = terms | {"total": total} | judged
        return {name: value.detach() for name, value in logged.items()} | {"skipped": skipped}

    def terms(self, made: Translated, sides: Sides, damage: Float[Tensor, "b 5"]) -> dict[str, Tensor]:
        """Gives the terms of a step that the settings weigh, by name.

        Args:
            made: Of the sides.
            sides: Clean and degraded faces.
            damage: Of the degraded ones, which the made degraded faces should have too.
        """
        weighed, terms = self.recipe.weights, {}
        if "adversarial" in weighed:
            self.judges.requires_grad_(False)
            scores = torch.cat((self.judges.high(made.restored), self.judges.low(made.degraded)))
            self.judges.requires_grad_(True)
            terms["adversarial"] = 2 * logistic_generator_loss(scores)
        everybody = torch.cat(sides)
        for name, image, truth in (("cycle", made.there_and_back, everybody), ("rebuilt", made.rebuilt, sides.low)):
            further = {kind: f"{name}_{kind}" for kind in ("perceptual", "texture")}
            terms |= self.compared(image, truth, plain=name, **further)
        if "latent" in weighed:
            terms["latent"] = made.latent
        if "damage" in weighed:
            terms["damage"] = F.mse_loss(self.model.damage(made.degraded), damage)
        return terms

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives degraded faces at four levels, and clean ones as the other way degrades them."""
        high, low = self.unpaired(batch, 0)
        model, count = self.result.eval(), min(len(high), len(low))
        named = {"low": low} | {f"level {level:g}": model.restore(low, level=level) for level in (0, 0.5, 1, 1.25)}
        worse = model.generator(model.high(high[:count]) - model.shift(model.damage(low[:count])))
        named |= {"high": high, "high degraded": worse}
        return {name: to_unit(image[:count]) for name, image in named.items()}

    @torch.no_grad()
    def answer(self, image: Image) -> Image:
        """Gives restored faces."""
        return self.result.restore(image)

    def _judge(self, sides: Sides, made: Translated, *, penalised: bool) -> dict[str, Tensor]:
        real = [image.detach().requires_grad_(penalised) for image in sides]
        with gradients_of_gradients() if penalised else nullcontext():
            scores = self.judging(real[0], made.restored.detach(), real[1], made.degraded.detach())
        losses = {
            "discriminator_high": logistic_discriminator_loss(scores[0], scores[1]),
            "discriminator_low": logistic_discriminator_loss(scores[2], scores[3]),
        }
        total = losses["discriminator_high"] + losses["discriminator_low"]
        if penalised and self.recipe.r1:
            penalty = r1_penalty(scores[0], real[0]) + r1_penalty(scores[2], real[1])
            # it is counted once for all the steps between
            total = total + self.recipe.r1 / 2 * self.recipe.r1_every * penalty
        self.engine.backward([total])
        return losses


class Judges(nn.Module):
    """The discriminators of both qualities.

    Args:
        high: Knows clean faces from restored ones.
        low: Knows degraded faces from clean ones that were made worse.
    """

    def __init__(self, high: StyleGANDiscriminator, low: StyleGANDiscriminator):
        super().__init__()
        self.high, self.low = high, low

    def forward(self, high: Image, restored: Image, low: Image, degraded: Image) -> tuple[Tensor, ...]:
        """Gives the scores of real and made faces of each quality, each `b 1`, in the order of the arguments."""
        return self.high(high), self.high(restored), self.low(low), self.low(degraded)


class _Translation(nn.Module):
    """What the loop calls in a step: both ways, there and back."""

    def __init__(self, model: LCQS):
        super().__init__()
        self.model = model

    def forward(self, high: Image, low: Image, damage: Tensor) -> Translated:
        model = self.model
        shift, clean, degraded = model.shift(damage), model.high(high), model.low(low)
        there = model.generator(torch.cat((degraded + shift, clean - shift, degraded)))
        restored, worse, rebuilt = there.chunk(3)
        # from there each side goes back through the encoder of the other
        again_clean, again_degraded = model.low(worse) + shift, model.high(restored) - shift
        back = model.generator(torch.cat((again_clean, again_degraded)))
        latent = (F.mse_loss(again_clean, clean.detach()) + F.mse_loss(again_degraded, degraded.detach())) / 2
        return Translated(restored, worse, back, rebuilt, latent)
