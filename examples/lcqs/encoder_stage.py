"""The first stage: encoders learn to give the styles of a face, clean or degraded, and the generator may follow."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from codeprior.images import to_unit
from codeprior.shapes import Image
from codeprior.stages import rate_at, weighted
from codeprior.training import Batch, Engine, Stream, WeightAverage, full, step_if_finite

from .model import LCQS
from .settings import EncoderSettings
from .unpaired import UnpairedStage

_TERMS = ("l1", "perceptual", "texture")


class EncoderStage(UnpairedStage):
    """Trains both encoders of an LCQS to rebuild their faces, and its generator where the settings say so.

    Args:
        settings: The configuration.
        model: See `fresh`.
        low: Pictures of the low side, as many a step as the settings say.
        perceptual: Distance of two signed images; for the term `texture`, a `PerceptualLoss`.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The low side has another batch, a weight has no term, or the batch is to be worked on in parts.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        *,
        model: LCQS,
        low: Stream,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        super().__init__(settings, low=low, perceptual=perceptual, terms=_TERMS, device=device, engine=engine)
        if settings.shared:
            model.low = model.high
        model.requires_grad_(False)
        groups = [{"params": trained(model.high, model.low), "scale": 1.0}]
        if settings.generator_rate:
            groups.append({"params": trained_generator(model), "scale": settings.generator_rate})
        self.model = model.to(self.engine.device)
        self.network = self.engine.wrap(_Rebuilding(model))
        self.optimizer = Adam(groups, lr=settings.learning_rate, betas=settings.betas)
        self.average = WeightAverage(model, decay=settings.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.model, "optimizer": self.optimizer, **self.average.parts}

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What the second stage begins from."""
        return {"encoders": self.result}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch of each side."""
        set_rates(self.optimizer, rate_at(self.recipe, step))
        self.optimizer.zero_grad(set_to_none=True)
        sides = self.unpaired(batch, step)
        with self.engine.autocast():
            image = self.network(*sides)
        image, truth = full(image), torch.cat(sides)
        terms = self.compared(image, truth, plain="l1", perceptual="perceptual", texture="texture")
        total = weighted(terms, self.recipe.weights)
        self.engine.backward([total])
        skipped = step_if_finite(self.optimizer, clip=self.recipe.clip)
        self.average.update()
        return {name: value.detach() for name, value in (terms | {"total": total}).items()} | {"skipped": skipped}

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives faces of both sides, and what is made of their styles."""
        high, low = self.unpaired(batch, 0)
        model, count = self.result.eval(), min(len(batch.clean), len(self.unpaired.low.at(0).clean))
        rebuilt_high, rebuilt_low = model.generator(model.high(high)), self.answer(low)
        named = {"high": high, "high rebuilt": rebuilt_high, "low": low, "low rebuilt": rebuilt_low}
        return {name: to_unit(image[:count]) for name, image in named.items()}

    @torch.no_grad()
    def answer(self, image: Image) -> Image:
        """Gives degraded faces rebuilt; they are not restored yet."""
        return self.result.restore(image, level=0.0)


class _Rebuilding(nn.Module):
    """What the loop calls in a step: clean faces through their encoder, degraded ones through theirs, then back."""

    def __init__(self, model: LCQS):
        super().__init__()
        self.model = model

    def forward(self, high: Image, low: Image) -> Image:
        model = self.model
        if model.low is model.high:
            return model.generator(model.high(torch.cat((high, low))))
        return model.generator(torch.cat((model.high(high), model.low(low))))


def trained(*modules: nn.Module) -> list[nn.Parameter]:
    """Gives the parameters of modules, each once, and lets them learn.

    Args:
        *modules: Two of them may be the same.
    """
    found = {id(value): value for module in modules for value in module.requires_grad_(True).parameters()}
    return list(found.values())


def trained_generator(model: LCQS) -> list[nn.Parameter]:
    """Gives the parameters of a generator that is called without noise, and lets them learn.

    Args:
        model: Its generator.
    """
    everything = model.generator.requires_grad_(True).named_parameters()
    idle, learning = [], []
    for name, value in everything:
        (idle if name.endswith("noise_weight") else learning).append(value)
    for value in idle:
        value.requires_grad_(False)
    return learning


def set_rates(optimizer: Adam, rate: float) -> None:
    """Sets the learning rate of each group to its share of a rate.

    Args:
        optimizer: Whose groups have a `scale`.
        rate: Of a group with the scale 1.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
