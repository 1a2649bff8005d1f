"""The objective of stages 1 and 2 for one VQGAN: give the image back, fool a discriminator, keep to the codes."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior import distributed
from codeprior.codebooks import LatentReservoir, UsageMeter, unused, usage
from codeprior.discriminators import PatchGAN
from codeprior.losses import (
    chroma_loss,
    codebook_loss,
    generator_adversarial_loss,
    hinge_discriminator_loss,
    last_layer_pulls,
    loss_at_image,
    pyramid_loss,
    watch_input,
    weight_of_pulls,
)
from codeprior.prior import VQGAN, Reconstruction
from codeprior.shapes import Image, Latent
from codeprior.training import Engine, TorchEngine, WeightAverage, full, step_if_finite

from .passes import Health, Judged, Passed, Pull
from .recipes import CodebookRecipe
from .updates import adam, apart, means, perceptual_precision, unrecorded

_DISTANCES = {
    "l1": lambda candidate, image: (candidate - image).abs().mean(),
    "pyramid": pyramid_loss,
    "chroma": chroma_loss,
}
"""Distances of pixels by the name of their weight."""


class Objective:
    """A VQGAN, its discriminator, both optimisers, and the losses between them.

    Args:
        model: The VQGAN.
        perceptual: Distance of two signed images.
        recipe: Weights, rates and gates.
        engine: What distributes; one process on the CPU without it.

    Raises:
        ValueError: The discriminator's norm cannot be computed in parts, or the codes revive themselves already.

    Note:
        With `recipe.accumulate` above 1 a rank works on its batch in parts, one after the other. A part is then what a
        rank was: whatever is local (adaptive weight, BatchNorm) is local to a part, whatever is global is the batch's.
        Codes that follow moving averages follow once a batch, and the optimisers step once.
    """

    def __init__(self, model: VQGAN, perceptual: nn.Module, recipe: CodebookRecipe, *, engine: Engine | None = None):
        self.engine = engine or TorchEngine()
        self.model, self.perceptual, self.recipe = model, perceptual, recipe
        if recipe.accumulate > 1 and recipe.discriminator_norm == "sync":
            raise ValueError(
                "Objective: discriminator_norm='sync' averages over ranks and cannot average over the parts of an "
                "accumulated batch; use accumulate=1, or discriminator_norm='group'."
            )
        if recipe.revive_below and recipe.network.codebook == "moving_average":
            raise ValueError(
                "Objective: revive_below is for codes that a gradient moves, and moving averages revive their own; set "
                "network.revive_below instead."
            )
        self.perceptual_from = round(recipe.perceptual_from * recipe.steps)
        self.discriminator = PatchGAN(
            recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm
        )
        # each is wrapped for the part of the step that trains it; the generator's part asks the bare discriminator
        self.network, self.judge = self.engine.wrap(model), self.engine.wrap(self.discriminator)
        self.generator_optimizer = adam(model, recipe)
        self.discriminator_optimizer = adam(self.discriminator, recipe)
        self.use = UsageMeter(recipe.network.codes, tables=recipe.network.tables)
        self.health = Health()
        self.average = None if recipe.average is None else WeightAverage(model, decay=recipe.average)
        self.reservoir = LatentReservoir(recipe.network.dim).to(self.engine.device) if recipe.first_coded else None
        self.use.to(self.engine.device)
        self.health.to(self.engine.device)

    @property
    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        parts = {
            "vqgan": self.model,
            "discriminator": self.discriminator,
            "vqgan_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "use": self.use,
            "health": self.health,
            "average": self.average,
            "reservoir": self.reservoir,
        }
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def result(self) -> VQGAN:
        """What training hands on: the average of the weights where there is one."""
        return self.model if self.average is None else cast(VQGAN, self.average.module)

    def begin(self, step: int) -> None:
        """Puts the VQGAN in training mode; codes that follow their vectors wait until a whole batch has passed.

        At the step from which codes are used, k-means starts them on the latents seen before.
        """
        self.model.train()
        if self.reservoir is not None and step == self.recipe.first_coded:
            held = distributed.gather(self.reservoir.held())
            cast(Any, self.model.codebook).start(torch.cat(list(held)), seed=self.recipe.seed)
            if self.average is not None:
                self.average.copy("codebook")
        if self.recipe.accumulate > 1:
            self.model.codebook.eval()

    def ahead(self, images: Sequence[Image], step: int, *, latents: bool = False) -> Sequence[Judged | None]:
        """Gives, for each part of a batch, what must be known of the whole batch before the first backward pass.

        That is the global adaptive weight, which is no sum over parts, and takes one more forward pass without a graph.

        Args:
            images: Signed; the parts.
            step: Number of the update.
            latents: Whether the latents are wanted in any case.

        Returns: One entry a part; None where nothing need be known.
        """
        joint = self.recipe.adaptive == "global" and self._fools(step)
        if len(images) == 1 or not (joint or latents):
            return [None] * len(images)
        found = []
        for image in images:
            found.append(self._judge(*self._run(image, step, recorded=False), image, step))
        pulls = [one.pulls for one in found if one.pulls is not None]
        if joint:
            found = [one._replace(pulls=torch.stack(pulls).mean(0)) for one in found]
        return found

    def pull(self, image: Image, step: int, judged: Judged | None = None, *, recorded: bool = True) -> Pull:
        """Gives the generator's side of a step.

        The adversarial term counts `weight · adaptive · gate`; while the gate is closed the shared pass leaves it out
        altogether, the sequential pass computes it and multiplies by zero, as released.

        Args:
            image: `b 3 H W`, signed; what to give back.
            step: Number of the update; opens the gate.
            judged: What `ahead` gave for it.
            recorded: Whether anything will walk back; without a graph the scalars are the same.
        """
        recipe = self.recipe
        result, entering = self._run(image, step, recorded=recorded)
        if judged is None:
            judged = self._judge(result, entering, image, step)
        parts = dict(judged.metrics)
        gradient, total = judged.wanted.gradient, judged.wanted.value
        if judged.fooling is not None and judged.pulls is not None:
            adaptive = recipe.weights["adversarial"] * weight_of_pulls(judged.pulls, mode=recipe.adaptive)
            counted = adaptive * float(step >= recipe.first_adversarial)
            gradient = gradient + counted * judged.fooling.gradient
            total = total + counted * judged.fooling.value
            parts |= {"adversarial": judged.fooling.value, "adaptive_weight": adaptive}
        codebook = codebook_loss(
            result.latent, result.quantized.codes, commitment=recipe.commitment_term, codebook=recipe.codebook_term
        )
        quantization = recipe.weights["codebook"] * codebook
        parts |= {"codebook": codebook.detach(), "total": total + quantization.detach()}
        return Pull([result.image, quantization], [gradient, None], parts, result)

    def passed(self, pull: Pull) -> Passed:
        """Gives what is kept of a pull."""
        image, latent, quantized = pull.reconstruction
        size = self.model.codebook.size
        tables = [quantized.indices] if quantized.indices.ndim == 3 else quantized.indices.unbind(1)
        counts = (
            torch.stack([usage(table, size) for table in tables])
            if tables
            else torch.zeros(0, size, device=image.device)
        )
        return Passed(image.detach(), latent.detach(), counts, pull.metrics)

    def finish(self, passed: Sequence[Passed], step: int) -> dict[str, Tensor]:
        """Lets the codes follow the vectors of a whole batch, once, revives dead ones, and gives its scalars."""
        counts = torch.stack([one.counts for one in passed]).sum(0)
        codes = {}
        if len(counts):
            self._follow([one.latent for one in passed])
            self.use.add(distributed.sum_over_ranks(counts))
            codes = self.use.figures() | self._revive([one.latent for one in passed], step)
        elif self.reservoir is not None:
            for one in passed:
                self.reservoir.add(one.latent)
        return means([one.metrics for one in passed]) | codes

    @torch.no_grad()
    def reconstruct(self, image: Image) -> Image:
        """Gives what the VQGAN that is handed on makes of signed images; in codes once all of its codes are started."""
        result = self.result.eval()
        coded = self.reservoir is None or bool(self.use.counts.any())
        return result(image, coded=coded).image

    def follow_average(self) -> None:
        """Takes the weights of a finished step into their average."""
        if self.average is not None:
            self.average.update()

    def step_generator(self, images: Sequence[Image], step: int) -> tuple[list[Passed], Tensor]:
        """Moves the VQGAN by the mean over the parts of a batch.

        Args:
            images: Signed; the parts.
            step: Number of the update.

        Returns:
            What is kept of each part's pass, and how many moves were left out, see `step_if_finite`.
        """
        self.generator_optimizer.zero_grad(set_to_none=True)
        passed = []
        for part, judged in enumerate(self.ahead(images, step)):
            with apart(self.engine, part + 1 == len(images), self.network):
                pull = self.pull(images[part], step, judged).over(len(images))
                self.engine.backward(pull.roots, pull.gradients)
            passed.append(self.passed(pull))
        return passed, step_if_finite(self.generator_optimizer, clip=self.recipe.clip)

    @torch.no_grad()
    def again(self, images: Sequence[Image], step: int) -> list[Image]:
        """Gives reconstructions by the VQGAN as it is now, from a whole forward pass in training mode."""
        found = [self.model(image, coded=self._coded(step)) for image in images]
        if self._coded(step):
            self._follow([one.latent for one in found])
        return [one.image for one in found]

    def step_discriminator(self, real: Sequence[Image], fake: Sequence[Image], step: int) -> dict[str, Tensor]:
        """Moves the discriminator, and gives its loss; nothing happens while its gate is closed in a shared pass.

        Args:
            real: Signed; the parts of a batch.
            fake: What the VQGAN made of them, detached here.
            step: Number of the update.
        """
        if not self._fools(step):
            return {}
        gate = float(step >= self.recipe.first_adversarial)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        losses = []
        for part, (mine, made) in enumerate(zip(real, fake, strict=True)):
            with apart(self.engine, part + 1 == len(real), self.judge):
                with self.engine.autocast():
                    maps = self.judge(mine), self.judge(made.detach())
                true, false = (full(one) for one in maps)
                loss = hinge_discriminator_loss(true, false)
                self.engine.backward([gate / len(real) * loss])
            right = ((true > 0).double().mean() + (false < 0).double().mean()) / 2
            losses.append({"discriminator": loss.detach(), "discriminator_right": right.detach()})
        found = means(losses)
        resting = None
        if self.recipe.discriminator_rest:
            resting = self.health.rests(self.engine.mean(found["discriminator"]), below=self.recipe.discriminator_rest)
            found["discriminator_rests"] = resting.to(found["discriminator"].dtype)
        return found | {"skipped": step_if_finite(self.discriminator_optimizer, unless=resting)}

    def set_rate(self, rate: float) -> None:
        """Sets the learning rate of both optimisers."""
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _coded(self, step: int) -> bool:
        return step >= self.recipe.first_coded

    def _fools(self, step: int) -> bool:
        return step >= self.recipe.first_adversarial or self.recipe.generator_pass == "sequential"

    def _run(self, image: Image, step: int, *, recorded: bool) -> tuple[Reconstruction, Tensor]:
        network, opened = (self.network, nullcontext()) if recorded else (self.model, unrecorded(self.model))
        with opened, self.engine.autocast(), watch_input(self.model.decoder.last_layer) as entering:
            result = network(image, coded=self._coded(step))
        return result._replace(image=full(result.image)), full(entering[-1])

    def _judge(self, result: Reconstruction, entering: Tensor, image: Image, step: int) -> Judged:
        weights, parts = self.recipe.weights, {}

        def faithful(candidate: Tensor) -> Tensor:
            for name, distance in _DISTANCES.items():
                if weights.get(name):
                    parts[name] = distance(candidate, image)
            if weights.get("perceptual") and step >= self.perceptual_from:
                parts["perceptual"] = self._differ(candidate, image)
            first, *others = (weights[name] * part for name, part in parts.items())
            return sum(others, first)

        wanted = loss_at_image(result.image, faithful)
        metrics = {name: value.detach() for name, value in parts.items()}
        judged = Judged(wanted, None, None, result.latent.detach(), metrics)
        if not self._fools(step):
            return judged
        self.discriminator.requires_grad_(False)
        fooling = loss_at_image(result.image, lambda fake: generator_adversarial_loss(self._look(fake)))
        self.discriminator.requires_grad_(True)
        # the last layer gives squares of pixels as channels where the decoder shuffles them
        side = getattr(self.model.decoder, "unshuffle", 1)
        pulls = last_layer_pulls(
            *(F.pixel_unshuffle(one, side) for one in (wanted.gradient, fooling.gradient)),
            entering=entering, last_layer=self.model.decoder.last_layer,
        )  # fmt: skip
        return judged._replace(fooling=fooling, pulls=pulls)

    def _differ(self, candidate: Image, image: Image) -> Tensor:
        with perceptual_precision(self.engine, self.recipe.perceptual):
            return full(self.perceptual(candidate, image))

    def _look(self, image: Image) -> Tensor:
        with self.engine.autocast():
            return full(self.discriminator(image))

    @torch.no_grad()
    def _revive(self, latents: Sequence[Latent], step: int) -> dict[str, Tensor]:
        """Sets codes that nothing chose over many batches to vectors of this one; alike on every rank and on resume."""
        recipe, counted = self.recipe, step + 1 - self.recipe.first_coded
        if not recipe.revive_below or counted <= 0 or counted % recipe.revive_every:
            return {}
        rows = torch.cat([rearrange(latent, "b d h w -> (b h w) d") for latent in latents])
        vectors = torch.cat(distributed.gather(rows))
        dead = unused(self.use.counts, below=recipe.revive_below)
        codebook: Any = self.model.codebook
        codebook.revive(vectors, dead if recipe.network.tables > 1 else dead[0], seed=recipe.seed + step)
        self.use.forgive(dead)
        return {"codes_revived": dead.double().sum()}

    @torch.no_grad()
    def _follow(self, latents: Sequence[Tensor]) -> None:
        # one part has been followed in its forward pass already
        if len(latents) > 1 and any(True for _ in self.model.codebook.buffers()):
            self.model.codebook.train()(torch.cat(list(latents)))
            self.model.codebook.eval()
