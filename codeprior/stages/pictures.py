"""What stages share whose restorer learns by the pictures that it makes, under the eyes of a discriminator of patches.

A family's stage derives from it: it makes the restorer and its optimisers, and gives the order of its own terms.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codeprior.discriminators import PatchGAN
from codeprior.losses import adaptive_weight, generator_adversarial_loss, hatch_loss, hinge_discriminator_loss
from codeprior.shapes import Image
from codeprior.stages.pairs import Faces, Measured
from codeprior.stages.settings import AdversarialSettings, rate_at
from codeprior.stages.updates import adam, set_rate
from codeprior.training import Engine, TorchEngine, WeightAverage, step_if_finite


class PictureStage:
    """A restorer, the average of its weights, and a discriminator of patches.

    Args:
        recipe: The settings, with a `network` that has a `size`.
        model: The restorer.
        perceptual: Distance of two signed images.
        discriminator: One to go on with; without it one is drawn as the settings say.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Attributes:
        optimizers: By the name under which a checkpoint holds them; the family's own beside the discriminator's.

    Raises:
        ValueError: The settings ask for a batch in parts.
    """

    measured: Measured = "restored"

    def __init__(
        self,
        recipe: AdversarialSettings,
        *,
        model: nn.Module,
        perceptual: nn.Module,
        discriminator: PatchGAN | None = None,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        if recipe.accumulate > 1:
            raise ValueError(
                f"{type(self).__name__}: it takes a rank's batch whole, got accumulate={recipe.accumulate}; use a "
                "smaller batch, or more ranks."
            )
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        self.faces = Faces.of(recipe, size=self.recipe.network.size, device=device)
        self.perceptual: Any = perceptual.to(device)
        self.model: Any = model.to(device)
        self.discriminator = discriminator or PatchGAN(
            recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm
        )
        self.judge = self.engine.wrap(self.discriminator)
        self.optimizers: dict[str, Optimizer] = {"discriminator_optimizer": adam(self.discriminator, recipe)}
        self.average = WeightAverage(self.model, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.model, "discriminator": self.discriminator, **self.optimizers, **self.average.parts}

    @property
    def result(self) -> Any:
        """The restorer that is handed on: the average of the weights where there is one."""
        return self.average.module

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores, and the discriminator, for a stage that goes on."""
        return {"restorer": self.result, "discriminator": self.discriminator}

    def answer(self, degraded: Image) -> Image:
        """Gives what the restorer that is handed on makes of degraded faces `b 3 H W`, signed."""
        return self.result.eval().restore(degraded)

    def begin(self, step: int) -> float:
        """Opens a step: the restorer learns, gradients are gone, every optimiser has the step's rate, which it gives.

        Args:
            step: Number of the update.
        """
        self.model.train()
        rate = rate_at(self.recipe, step)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
            set_rate(optimizer, rate)
        return rate

    def judges(self, step: int) -> bool:
        """Says whether the discriminator counts at a step, and learns."""
        return step >= self.recipe.first_adversarial

    def hatch(self, image: Image, clean: Image, *, prefix: str = "") -> dict[str, Tensor]:
        """Gives the term `hatch` under its name where the settings weigh it, else nothing.

        Args:
            image: `b 3 H W`, signed.
            clean: The same faces, signed.
            prefix: Of the term's name.
        """
        name = f"{prefix}hatch"
        return {name: hatch_loss(image, clean)} if name in self.recipe.weights else {}

    def fooling(
        self,
        image: Image,
        wanted: Tensor,
        *,
        last_layer: nn.Module,
        term: str = "adversarial",
        discriminator: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Gives the adversarial term of pictures, and how much it counts: its weight times the adaptive one.

        Args:
            image: `b 3 H W`, signed, with its graph.
            wanted: The loss that the term is weighed against.
            last_layer: With the `weight` at which both are weighed.
            term: Name of its weight.
            discriminator: Another one than the stage's, bare.
        """
        discriminator = discriminator or self.discriminator
        discriminator.requires_grad_(False)
        fooling = generator_adversarial_loss(discriminator(image))
        discriminator.requires_grad_(True)
        adaptive = adaptive_weight(wanted, fooling, last_layer=last_layer, limit=self.recipe.adaptive_limit)
        return fooling, self.recipe.weights[term] * adaptive

    def learn_to_judge(
        self,
        clean: Image,
        made: Image,
        *,
        judge: nn.Module | None = None,
        optimizer: str = "discriminator_optimizer",
    ) -> tuple[Tensor, Tensor]:
        """Moves the discriminator; gives its loss, and how many moves were left out.

        Args:
            clean: `b 3 H W`, signed.
            made: The restorer's, detached here.
            judge: Another one than the stage's, wrapped.
            optimizer: Name of its optimiser.
        """
        judge = judge or self.judge
        loss = hinge_discriminator_loss(judge(clean), judge(made.detach()))
        self.engine.backward([loss])
        return loss, step_if_finite(self.optimizers[optimizer])

    def finish(self, terms: Mapping[str, Tensor], *skipped: Tensor) -> dict[str, Tensor]:
        """Closes a step: the average follows the weights; gives the scalars, detached, and `skipped`.

        Args:
            terms: Scalars by name.
            *skipped: What `step_if_finite` gave.
        """
        self.average.update()
        return {name: value.detach() for name, value in terms.items()} | {"skipped": torch.stack(skipped).amax()}
