"""The second stage: the prior is put behind an encoder, and both learn to restore pairs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from codeprior.discriminators import StyleGANDiscriminator
from codeprior.generators import StyleGANGenerator
from codeprior.images import to_unit
from codeprior.losses import feature_matching_loss, logistic_generator_loss
from codeprior.shapes import Image
from codeprior.stages import Adversary, Faces, Measured, Pair, PathLength, gradients_of_gradients, rate_at, weighted
from codeprior.training import Batch, Engine, TorchEngine, WeightAverage, step_if_finite

from .model import GPEN, Generated, begin, gpen
from .settings import FineTuningSettings

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV converts


class FineTuningStage:
    """Trains encoder, decoder and discriminator on pairs.

    Args:
        recipe: The settings.
        prior: The generator of the first stage; None where the settings begin with fresh weights.
        discriminator: Of the first stage; a fresh one without it.
        identity: Distance of two people, for the term `identity`; see `codeprior.losses.IdentityLoss`.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The prior is missing or does not fit, the settings weigh `identity` without a network, keep the
            prior as it is but penalise its path lengths, or ask for a batch in parts.
    """

    measured: Measured = "restored"

    def __init__(
        self,
        recipe: FineTuningSettings,
        *,
        prior: StyleGANGenerator | None = None,
        discriminator: StyleGANDiscriminator | None = None,
        identity: nn.Module | None = None,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        _check(recipe, prior, identity)
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        device, network = self.engine.device, recipe.network
        self.faces = Faces.of(recipe, size=network.input_size or network.size, device=device)
        self.targets = Faces(size=network.size, degradation=None, degradation_size=network.size, device=device)
        self.model = gpen(network)
        if prior is not None:
            begin(self.model, prior)
        if recipe.prior_stays:
            self.model.generator.requires_grad_(False)
        self.network = self.engine.wrap(self.model)
        judge = StyleGANDiscriminator(network.size, multiplier=network.multiplier, narrow=network.narrow)
        if discriminator is not None:
            judge.load_state_dict(discriminator.state_dict())
        self.adversary = Adversary(recipe, judge, self.engine)
        self.identity = None if identity is None else identity.to(device)
        self.path = PathLength(recipe, self.engine).to(device)
        self.rates = {"encoder": recipe.encoder_rate} | ({} if recipe.prior_stays else {"generator": 1.0})
        groups = [{"params": list(self.model.get_submodule(part).parameters())} for part in self.rates]
        self.optimizer = Adam(groups, lr=recipe.learning_rate, betas=recipe.betas)
        self.average = WeightAverage(self.model, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        return self.adversary.saved(model=self.model, optimizer=self.optimizer, path=self.path, average=self.average)

    @property
    def result(self) -> GPEN:
        """The model that is handed on: the average of the weights where there is one."""
        return self.average.module

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores faces, and what judged them."""
        return {"restorer": self.result, "discriminator": self.adversary.discriminator}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch: the discriminator, its R1, encoder and decoder, the path length, the average."""
        self.model.train()
        rate = rate_at(self.recipe, step)
        for group, factor in zip(self.optimizer.param_groups, self.rates.values(), strict=True):
            group["lr"] = rate * factor
        # all that is random is drawn from the first sample's key, which no other step and no other rank has
        rng = torch.Generator().manual_seed(int(batch.keys[0]))
        pair = self.pair(batch, rng)
        made = self._made(pair, rng)
        found = self.adversary.learn(pair.clean, made.image, step, rate)
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.terms(made.image, pair.clean)
        total = weighted(terms, self.recipe.weights)
        self.engine.backward([total])
        skipped = torch.maximum(found["skipped"], step_if_finite(self.optimizer, clip=self.recipe.clip))
        found |= {name: value.detach() for name, value in terms.items()} | {"total": total.detach()}
        if self.path.due(step):
            with gradients_of_gradients():
                again = self._made(pair, rng)
            found["path"], left_out = self.path.learn(*again, rng, optimizer=self.optimizer)
            skipped = torch.maximum(skipped, left_out)
        self.average.update()
        return found | {"skipped": skipped}

    def terms(self, image: Image, clean: Image) -> dict[str, Tensor]:
        """Gives the terms of the generator's loss by name.

        Args:
            image: Restored faces.
            clean: The same faces, signed.
        """
        judged = self.adversary.judged(image)
        content = F.l1_loss if self.recipe.content == "l1" else F.smooth_l1_loss
        terms = {"adversarial": logistic_generator_loss(judged.scores), "content": content(image, clean)}
        if "features" in self.recipe.weights:
            with torch.no_grad():
                real = self.adversary.judged(clean).features
            terms["features"] = feature_matching_loss(judged.features, real)
        if self.identity is not None and "identity" in self.recipe.weights:
            terms["identity"] = self.identity(image, clean)
        return terms

    def pair(self, batch: Batch, generator: torch.Generator) -> Pair:
        """Gives degraded faces of the input's size and clean ones of the output's; some of both are grey.

        Args:
            batch: 8-bit faces.
            generator: Says which are grey.
        """
        pair = self.faces(batch)
        if self.faces.size != self.targets.size:
            pair = Pair(self.targets.clean(batch.clean.to(self.engine.device)), pair.degraded)
        if not self.recipe.grey:
            return pair
        # a linear map of each channel alike, so grey after the damage is grey before it, but for chroma that JPEG loses
        chosen = (torch.rand(len(pair.clean), generator=generator) < self.recipe.grey).to(pair.clean.device)
        return Pair(*(torch.where(chosen[:, None, None, None], _grey(image), image) for image in pair))

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded face, the restored one, and the truth."""
        pair = self.pair(batch, torch.Generator().manual_seed(self.recipe.seed))
        restored = self.result.eval().restore(pair.degraded)
        degraded = F.interpolate(pair.degraded, restored.shape[-2:], mode="nearest")
        named = {"degraded": degraded, "restored": restored.clamp(-1, 1), "clean": pair.clean}
        return {name: to_unit(image) for name, image in named.items()}

    @torch.no_grad()
    def answer(self, image: Image) -> Image:
        """Gives restored faces, signed."""
        return self.result.eval().restore(image)

    def _made(self, pair: Pair, rng: torch.Generator) -> Generated:
        return self.network(pair.degraded, noise=self.model.fresh_noise(len(pair.degraded), generator=rng))


def _check(recipe: FineTuningSettings, prior: StyleGANGenerator | None, identity: nn.Module | None) -> None:
    if prior is None and (recipe.begins == "prior" or recipe.prior_stays):
        raise ValueError("FineTuningStage: the settings begin from a prior; pass prior=, the generator of stage 1.")
    if "identity" in recipe.weights and identity is None:
        raise ValueError(
            "FineTuningStage: the settings weigh identity and there is no network for it; pass identity=, or take "
            "the weight out."
        )
    if recipe.prior_stays and recipe.path_every:
        raise ValueError(
            "FineTuningStage: the prior stays as it is, so that its path lengths cannot change; set path_every=0."
        )
    unknown = set(recipe.weights) - {"adversarial", "content", "features", "identity"}
    if unknown:
        raise ValueError(
            f"FineTuningStage: no term is named {sorted(unknown)[0]}; there are adversarial, content, features and "
            "identity."
        )


def _grey(image: Image) -> Image:
    weights = image.new_tensor(_GREY).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True).expand_as(image)
