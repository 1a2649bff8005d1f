"""The update of a VQGAN: give the image back, fool a discriminator, keep to the codes.

`VQGANObjective.update` is the plain case, from top to bottom: one forward pass, all losses, one backward pass, then the
discriminator. A batch in parts and global weights are in `accumulated`, a forward pass for each optimiser, as the
reference runs it, in `sequential`; both call what is here.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior import distributed
from codeprior.codebooks import LatentReservoir, MovingAverageCodebook, UsageMeter, unused, usage
from codeprior.discriminators import PatchGAN
from codeprior.losses import (
    chroma_loss,
    codebook_loss,
    generator_adversarial_loss,
    hinge_discriminator_loss,
    last_layer_gradients,
    loss_at_image,
    pyramid_loss,
    watch_input,
    weight_of_gradients,
)
from codeprior.prior import VQGAN, Reconstruction
from codeprior.shapes import Image, Latent
from codeprior.stages.passes import BackwardInputs, GeneratorLosses, GeneratorResult, Health
from codeprior.stages.settings import VQGANSettings, rate_at
from codeprior.stages.updates import (
    adam,
    means,
    perceptual_precision,
    set_rate,
    sync_gradients_on_last_part,
    with_skipped,
    without_graph,
)
from codeprior.training import Engine, TorchEngine, WeightAverage, full, step_if_finite

_DISTANCES = {
    "l1": lambda candidate, image: (candidate - image).abs().mean(),
    "pyramid": pyramid_loss,
    "chroma": chroma_loss,
}
"""Distances of pixels by the name of their weight."""


class VQGANObjective:
    """A VQGAN, its discriminator, both optimisers, and the losses between them.

    Args:
        model: The VQGAN; its decoder ends in the convolution `last_layer`.
        perceptual: Distance of two signed images.
        recipe: Weights, rates and the steps from which each term counts.
        engine: What distributes; one process on the CPU without it.

    Raises:
        ValueError: The discriminator's norm cannot be computed in parts, or the codes revive themselves already.

    Note:
        With `recipe.accumulate` above 1 a rank works on its batch in parts, one after the other. A part is then what a
        rank was: whatever is local (adaptive weight, BatchNorm) is local to a part, whatever is global is the batch's.
        Codes that follow moving averages follow once a batch, and the optimisers step once.
    """

    def __init__(self, model: VQGAN, perceptual: nn.Module, recipe: VQGANSettings, *, engine: Engine | None = None):
        self.engine = engine or TorchEngine()
        self.model, self.perceptual, self.recipe = model, perceptual, recipe
        if recipe.accumulate > 1 and recipe.discriminator_norm == "sync":
            raise ValueError(
                "VQGANObjective: discriminator_norm='sync' averages over ranks and cannot average over the parts of an "
                "accumulated batch; use accumulate=1, or discriminator_norm='group'."
            )
        if recipe.revive_below and any(
            isinstance(part, MovingAverageCodebook) for part in model.get_submodule("codebook").modules()
        ):
            raise ValueError(
                "VQGANObjective: revive_below is for codes that a gradient moves, and moving averages revive their "
                "own; set network.revive_below instead."
            )
        self.discriminator = PatchGAN(
            recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm
        )
        # each is wrapped for the part of the step that trains it; the generator's part asks the bare discriminator
        self.network, self.judge = self.engine.wrap(model), self.engine.wrap(self.discriminator)
        self.generator_optimizer = adam(model, recipe)
        self.discriminator_optimizer = adam(self.discriminator, recipe)
        self.tables = getattr(model.codebook, "count", getattr(model.codebook, "groups", 1))
        self.use = UsageMeter(model.codebook.size, tables=self.tables)
        self.health = Health()
        self.average = WeightAverage(model, decay=recipe.average)
        self.reservoir = LatentReservoir(model.codebook.dim).to(self.engine.device) if recipe.first_coded else None
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
            **self.average.parts,
        }
        return parts if self.reservoir is None else parts | {"reservoir": self.reservoir}

    @property
    def result(self) -> VQGAN:
        """What training hands on: the average of the weights where there is one."""
        return self.average.module

    # the update, from top to bottom

    def update(self, image: Image, step: int) -> dict[str, Tensor]:
        """Makes one update on one batch, whole and with one forward pass for both optimisers.

        Args:
            image: `b 3 H W`, signed; what to give back.
            step: Number of the update.

        Returns:
            Detached scalars by name.
        """
        self.begin(step)

        found = self.generator_pass(image, step)
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.engine.backward(found.roots, found.gradients)
        kept = self.kept(found)
        skipped = step_if_finite(self.generator_optimizer, clip=self.recipe.clip)

        metrics = self.finish([kept], step)
        metrics |= self.step_discriminator([image], [kept.fake], step)
        self.average.update()
        return with_skipped(metrics, skipped)

    def begin(self, step: int) -> None:
        """Sets the rates, and puts the VQGAN in training mode; with parts, codes wait until the batch has passed.

        At the step from which codes are used, k-means starts them on the latents seen before.

        Args:
            step: Number of the update.
        """
        self.model.train()
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            set_rate(optimizer, rate_at(self.recipe, step))
        if self.reservoir is not None and step == self.recipe.first_coded:
            cast(Any, self.model.codebook).start(self.reservoir.held(), seed=self.recipe.seed)
            self.average.copy("codebook")
        if self.recipe.accumulate > 1:
            self.model.codebook.eval()

    def generator_pass(
        self, image: Image, step: int, known: GeneratorLosses | None = None, *, recorded: bool = True
    ) -> BackwardInputs:
        """Gives the generator's side of an update: faithful + weight · adaptive weight · adversarial + codebook.

        While the adversarial term does not count, the shared pass leaves it out altogether; the sequential pass
        computes it and multiplies by zero, as released.

        Args:
            image: `b 3 H W`, signed; what to give back.
            step: Number of the update.
            known: The losses, where they have been computed already; see `accumulated.precompute`.
            recorded: Whether a backward pass follows; without a graph the scalars are the same.
        """
        recipe = self.recipe
        result, entering = self.reconstruction(image, step, recorded=recorded)
        losses = known or self.losses(result, entering, image, step)
        metrics = dict(losses.metrics)
        gradient, total = losses.faithful.gradient, losses.faithful.value
        if losses.adversarial is not None and losses.at_last_weight is not None:
            adaptive = weight_of_gradients(losses.at_last_weight, mode=recipe.adaptive, limit=recipe.adaptive_limit)
            weight = recipe.weights["adversarial"] * adaptive
            counted = weight * float(step >= recipe.first_adversarial)
            gradient = gradient + counted * losses.adversarial.gradient
            total = total + counted * losses.adversarial.value
            metrics |= {"adversarial": losses.adversarial.value, "adaptive_weight": weight}
        codebook = codebook_loss(
            result.latent, result.quantized.codes, commitment=recipe.commitment_term, codebook=recipe.codebook_term
        )
        quantization = recipe.weights["codebook"] * codebook
        metrics |= {"codebook": codebook.detach(), "total": total + quantization.detach()}
        return BackwardInputs([result.image, quantization], [gradient, None], metrics, result)

    def losses(self, result: Reconstruction, entering: Tensor, image: Image, step: int) -> GeneratorLosses:
        """Gives the losses of a reconstruction with their gradients at its pixels; the graph is cut there.

        Args:
            result: What the VQGAN gave.
            entering: What entered its last convolution.
            image: `b 3 H W`, signed; what it should have given.
            step: Number of the update.
        """
        weights, parts = self.recipe.weights, {}

        def faithful(candidate: Tensor) -> Tensor:
            for name, distance in _DISTANCES.items():
                if weights.get(name):
                    parts[name] = distance(candidate, image)
            if weights.get("perceptual") and step >= self.recipe.first_perceptual:
                with perceptual_precision(self.engine, self.recipe.perceptual):
                    parts["perceptual"] = full(self.perceptual(candidate, image))
            first, *others = (weights[name] * part for name, part in parts.items())
            return sum(others, first)

        def adversarial(candidate: Tensor) -> Tensor:
            with self.engine.autocast():
                scores = full(self.discriminator(candidate))
            return generator_adversarial_loss(scores)

        wanted = loss_at_image(result.image, faithful)
        metrics = {name: value.detach() for name, value in parts.items()}
        losses = GeneratorLosses(wanted, None, None, result.latent.detach(), metrics)
        if not self.fools(step):
            return losses
        self.discriminator.requires_grad_(False)
        fooling = loss_at_image(result.image, adversarial)
        self.discriminator.requires_grad_(True)
        # the last layer gives squares of pixels as channels where the decoder shuffles them
        side = getattr(self.model.decoder, "unshuffle", 1)
        at_last_weight = last_layer_gradients(
            *(F.pixel_unshuffle(one, side) for one in (wanted.gradient, fooling.gradient)),
            entering=entering, last_layer=self.model.decoder.last_layer,
        )  # fmt: skip
        return losses._replace(adversarial=fooling, at_last_weight=at_last_weight)

    def step_discriminator(self, real: Sequence[Image], fake: Sequence[Image], step: int) -> dict[str, Tensor]:
        """Moves the discriminator, and gives its loss; in a shared pass nothing happens before its first step.

        Args:
            real: Signed; the parts of a batch.
            fake: What the VQGAN made of them, detached here.
            step: Number of the update.
        """
        if not self.fools(step):
            return {}
        counts = float(step >= self.recipe.first_adversarial)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        losses = []
        for part, (mine, made) in enumerate(zip(real, fake, strict=True)):
            with sync_gradients_on_last_part(self.engine, part + 1 == len(real), self.judge):
                with self.engine.autocast():
                    maps = self.judge(mine), self.judge(made.detach())
                true, false = (full(one) for one in maps)
                loss = hinge_discriminator_loss(true, false)
                self.engine.backward([counts / len(real) * loss])
            right = ((true > 0).double().mean() + (false < 0).double().mean()) / 2
            losses.append({"discriminator": loss.detach(), "discriminator_right": right.detach()})
        found, resting = means(losses), None
        if self.recipe.discriminator_rest:
            resting = self.health.rests(self.engine.mean(found["discriminator"]), below=self.recipe.discriminator_rest)
            found["discriminator_rests"] = resting.to(found["discriminator"].dtype)
        return found | {"skipped": step_if_finite(self.discriminator_optimizer, unless=resting)}

    # what is around it

    def reconstruction(self, image: Image, step: int, *, recorded: bool = True) -> tuple[Reconstruction, Tensor]:
        """Runs the VQGAN; gives its reconstruction, and what entered its last convolution, both in full precision.

        Args:
            image: `b 3 H W`, signed.
            step: Number of the update.
            recorded: Whether a graph is recorded.
        """
        network, opened = (self.network, nullcontext()) if recorded else (self.model, without_graph(self.model))
        with opened, self.engine.autocast(), watch_input(self.model.decoder.last_layer) as entering:
            result = network(image, coded=self.coded(step))
        return result._replace(image=full(result.image)), full(entering[-1])

    def kept(self, found: BackwardInputs) -> GeneratorResult:
        """Gives what is kept of a generator pass when its graph goes."""
        image, latent, quantized = found.reconstruction
        size = self.model.codebook.size
        tables = [quantized.indices] if quantized.indices.ndim == 3 else quantized.indices.unbind(1)
        counts = [usage(table, size) for table in tables]
        none = torch.zeros(0, size, device=image.device)
        return GeneratorResult(image.detach(), latent.detach(), torch.stack(counts) if counts else none, found.metrics)

    def finish(self, kept: Sequence[GeneratorResult], step: int) -> dict[str, Tensor]:
        """Lets the codes follow the vectors of a whole batch, once, revives dead ones, and gives its scalars.

        Args:
            kept: Of each part of the batch.
            step: Number of the update.
        """
        counts = torch.stack([one.counts for one in kept]).sum(0)
        latents, codes = [one.latent for one in kept], {}
        if len(counts):
            self.follow(latents)
            self.use.add(distributed.sum_over_ranks(counts))
            codes = self.use.figures() | self._revive(latents, step)
        elif self.reservoir is not None:
            # every rank keeps the vectors of all: a checkpoint holds one rank's, and codes start alike after a restart
            for latent in latents:
                self.reservoir.add(torch.cat(distributed.gather(latent)))
        return means([one.metrics for one in kept]) | codes

    @torch.no_grad()
    def follow(self, latents: Sequence[Latent]) -> None:
        """Lets moving-average codes follow the vectors of a batch in parts; those of one part followed in its pass."""
        if len(latents) > 1 and any(True for _ in self.model.codebook.buffers()):
            self.model.codebook.train()(torch.cat(list(latents)))
            self.model.codebook.eval()

    @torch.no_grad()
    def reconstruct(self, image: Image) -> Image:
        """Gives what the VQGAN that is handed on makes of signed images; in codes once all of its codes are started."""
        result = self.result.eval()
        coded = self.reservoir is None or bool(self.use.counts.any())
        return result(image, coded=coded).image

    def coded(self, step: int) -> bool:
        """Says whether latents are exchanged for codes at a step."""
        return step >= self.recipe.first_coded

    def fools(self, step: int) -> bool:
        """Says whether the adversarial term is computed at a step."""
        return step >= self.recipe.first_adversarial or self.recipe.generator_pass == "sequential"

    @torch.no_grad()
    def _revive(self, latents: Sequence[Latent], step: int) -> dict[str, Tensor]:
        """Sets codes that nothing chose over many batches to vectors of this one; alike on every rank and on resume."""
        recipe, counted = self.recipe, step + 1 - self.recipe.first_coded
        if not recipe.revive_below or counted <= 0 or counted % recipe.revive_every:
            return {}
        rows = torch.cat([rearrange(latent, "b d h w -> (b h w) d") for latent in latents])
        vectors = torch.cat(distributed.gather(rows))
        dead = unused(self.use.counts, below=recipe.revive_below)
        cast(Any, self.model.codebook).revive(vectors, dead if self.tables > 1 else dead[0], seed=recipe.seed + step)
        self.use.forgive(dead)
        return {"codes_revived": dead.double().sum()}
