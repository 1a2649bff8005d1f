"""The objective of stages 1 and 2 for one VQGAN: give the image back, fool a discriminator, keep to the codes."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from codeprior.codebooks import perplexity, usage
from codeprior.discriminators import PatchGAN
from codeprior.losses import (
    codebook_loss,
    cut_adaptive_weight,
    generator_adversarial_loss,
    hinge_discriminator_loss,
    loss_at_image,
    watch_input,
)
from codeprior.prior import VQGAN, Reconstruction
from codeprior.shapes import Image
from codeprior.training import Engine, TorchEngine, full, step_if_finite

from .recipes import CodebookRecipe


class Pull(NamedTuple):
    """What a generator pass asks of the backward pass, and what it has to say.

    Attributes:
        roots: Tensors to walk back from.
        gradients: The gradient at each root; None for scalars.
        metrics: Detached scalars by name.
        reconstruction: What the VQGAN gave.
    """

    roots: list[Tensor]
    gradients: list[Tensor | None]
    metrics: dict[str, Tensor]
    reconstruction: Reconstruction


class Objective:
    """A VQGAN, its discriminator, both optimisers, and the losses between them.

    Args:
        model: The VQGAN.
        perceptual: Distance of two signed images.
        recipe: Weights, rates and gates.
        engine: What distributes; one process on the CPU without it.
    """

    def __init__(self, model: VQGAN, perceptual: nn.Module, recipe: CodebookRecipe, *, engine: Engine | None = None):
        self.engine = engine or TorchEngine()
        self.model, self.perceptual, self.recipe = model, perceptual, recipe
        self.discriminator = PatchGAN(
            recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm
        )
        # each is wrapped for the part of the step that trains it; the generator's part asks the bare discriminator
        self.network, self.judge = self.engine.wrap(model), self.engine.wrap(self.discriminator)
        self.generator_optimizer = adam(model, recipe)
        self.discriminator_optimizer = adam(self.discriminator, recipe)

    @property
    def saved(self) -> dict[str, nn.Module | Optimizer]:
        """What a checkpoint holds."""
        return {
            "vqgan": self.model,
            "discriminator": self.discriminator,
            "vqgan_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def pull(self, image: Image, step: int) -> Pull:
        """Gives the generator's side of a step.

        The adversarial term counts `weight · adaptive · gate`; while the gate is closed the shared pass leaves it out
        altogether, the sequential pass computes it and multiplies by zero, as released.

        Args:
            image: `b 3 H W`, signed; what to give back.
            step: Number of the update; opens the gate.
        """
        recipe, weights = self.recipe, self.recipe.weights
        last_layer = self.model.decoder.last_layer
        with self.engine.autocast(), watch_input(last_layer) as entering:
            result = self.network(image)
        result = result._replace(image=full(result.image))
        parts: dict[str, Tensor] = {}

        def faithful(candidate: Tensor) -> Tensor:
            parts["l1"] = (candidate - image).abs().mean()
            parts["perceptual"] = self.perceptual(candidate, image)
            return weights["l1"] * parts["l1"] + weights["perceptual"] * parts["perceptual"]

        wanted = loss_at_image(result.image, faithful)
        gradient, total = wanted.gradient, wanted.value
        gate = float(step >= recipe.adversarial_start)
        if gate or recipe.generator_pass == "sequential":
            self.discriminator.requires_grad_(False)
            fooling = loss_at_image(result.image, lambda fake: generator_adversarial_loss(self.look(fake)))
            self.discriminator.requires_grad_(True)
            adaptive = weights["adversarial"] * cut_adaptive_weight(
                wanted.gradient,
                fooling.gradient,
                entering=full(entering[-1]),
                last_layer=last_layer,
                mode=recipe.adaptive,
            )
            gradient = gradient + adaptive * gate * fooling.gradient
            total = total + adaptive * gate * fooling.value
            parts |= {"adversarial": fooling.value, "adaptive_weight": adaptive}
        parts["codebook"] = codebook_loss(
            result.latent, result.quantized.codes, commitment=recipe.commitment_term, codebook=recipe.codebook_term
        )
        quantization = weights["codebook"] * parts["codebook"]
        parts["total"] = total + quantization.detach()
        counts = usage(result.quantized.indices, self.model.codebook.size)
        parts["perplexity"] = perplexity(counts)
        parts["codes_used"] = (counts > 0).double().mean()
        metrics = {name: value.detach() for name, value in parts.items()}
        return Pull([result.image, quantization], [gradient, None], metrics, result)

    def look(self, image: Image) -> Tensor:
        """Gives the bare discriminator's map."""
        with self.engine.autocast():
            return full(self.discriminator(image))

    def step_generator(self, pull: Pull) -> Tensor:
        """Walks back and moves the VQGAN; gives how many moves were left out, see `step_if_finite`."""
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.engine.backward(pull.roots, pull.gradients)
        return step_if_finite(self.generator_optimizer)

    def step_discriminator(self, real: Image, fake: Image, step: int) -> dict[str, Tensor]:
        """Moves the discriminator, and gives its loss; nothing happens while its gate is closed in a shared pass.

        Args:
            real: `b 3 H W`, signed.
            fake: `b 3 H W`, signed, detached here.
            step: Number of the update.
        """
        gate = float(step >= self.recipe.adversarial_start)
        if not gate and self.recipe.generator_pass == "shared":
            return {}
        with self.engine.autocast():
            maps = self.judge(real), self.judge(fake.detach())
        loss = hinge_discriminator_loss(*(full(one) for one in maps))
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        self.engine.backward([gate * loss])
        return {"discriminator": loss.detach(), "skipped": step_if_finite(self.discriminator_optimizer)}

    def set_rate(self, rate: float) -> None:
        """Sets the learning rate of both optimisers."""
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = rate


def adam(module: nn.Module, recipe) -> Adam:
    """Gives the recipe's Adam over what a module trains."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return Adam(trained, lr=recipe.learning_rate, betas=recipe.betas)


def rate_at(recipe, step: int) -> float:
    """Gives the learning rate of a step: constant, then a straight line to zero from `decay_from` on."""
    done = step / recipe.steps
    if done <= recipe.decay_from or recipe.decay_from >= 1:
        return recipe.learning_rate
    return recipe.learning_rate * max(0.0, (1 - done) / (1 - recipe.decay_from))


def with_skipped(metrics: Mapping[str, Tensor], *skipped: Tensor) -> dict[str, Tensor]:
    """Gives metrics with `skipped` 1 where any part of the step was left out."""
    return {
        **metrics,
        "skipped": torch.stack([*skipped, *(metrics[key] for key in metrics if key == "skipped")]).amax(),
    }


def prefixed(prefix: str, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives metrics under longer names."""
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
