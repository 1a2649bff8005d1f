"""The first stage: a StyleGAN2 of clean faces, with noise of as many channels as the encoder will give features."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Adam

from codeprior.discriminators import StyleGANDiscriminator
from codeprior.generators import Noise, StyleGANGenerator
from codeprior.images import to_unit
from codeprior.losses import logistic_generator_loss
from codeprior.shapes import Image
from codeprior.stages import Adversary, Faces, PathLength, gradients_of_gradients, rate_at, set_rate
from codeprior.training import Batch, Engine, TorchEngine, WeightAverage, step_if_finite

from .model import Generated, generator
from .settings import PriorSettings


class PriorStage:
    """Trains a generator of faces against a discriminator.

    Args:
        recipe: The settings.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The settings ask for degraded faces, or for a batch in parts.
    """

    def __init__(
        self, recipe: PriorSettings, *, device: torch.device | str = "cpu", engine: Engine | None = None
    ):  # fmt: skip
        if recipe.degradation is not None:
            raise ValueError(
                f"PriorStage: the prior learns clean faces, but degradation is {recipe.degradation!r}; set it to None."
            )
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        self.faces = Faces.of(recipe, size=recipe.network.size, device=self.engine.device)
        self.model = generator(recipe.network)
        self.network = self.engine.wrap(_Drawn(self.model))
        network = recipe.network
        judge = StyleGANDiscriminator(network.size, multiplier=network.multiplier, narrow=network.narrow)
        self.adversary = Adversary(recipe, judge, self.engine)
        self.path = PathLength(recipe, self.engine).to(self.engine.device)
        self.optimizer = Adam(self.model.parameters(), lr=recipe.learning_rate, betas=recipe.betas)
        self.average = WeightAverage(self.model, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        return self.adversary.saved(model=self.model, optimizer=self.optimizer, path=self.path, average=self.average)

    @property
    def result(self) -> StyleGANGenerator:
        """The generator that is handed on: the average of the weights where there is one."""
        return self.average.module

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What the second stage begins from."""
        return {"generator": self.result, "discriminator": self.adversary.discriminator}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch: the discriminator, its R1, the generator, its path length, the average."""
        self.model.train()
        rate = rate_at(self.recipe, step)
        set_rate(self.optimizer, rate)
        real = self.faces(batch).clean
        # all that is random is drawn from the first sample's key, which no other step and no other rank has
        rng = torch.Generator().manual_seed(int(batch.keys[0]))
        made = self._made(len(real), rng)
        found = self.adversary.learn(real, made.image, step, rate)
        self.optimizer.zero_grad(set_to_none=True)
        fooling = logistic_generator_loss(self.adversary.judged(made.image).scores)
        self.engine.backward([fooling])
        skipped = torch.maximum(found["skipped"], step_if_finite(self.optimizer, clip=self.recipe.clip))
        found |= {"adversarial": fooling.detach(), "skipped": skipped}
        if self.path.due(step):
            with gradients_of_gradients():
                again = self._made(len(real), rng)
            found["path"], left_out = self.path.learn(*again, rng, optimizer=self.optimizer)
            found["skipped"] = torch.maximum(skipped, left_out)
        self.average.update()
        return found

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives faces that are made up, whole and pulled to the mean, beside ones of the data."""
        model, rng = self.result.eval(), torch.Generator().manual_seed(self.recipe.seed)
        clean = self.faces(batch).clean
        z = torch.randn(len(clean), model.mapping.dim, generator=rng).to(clean)
        noise, mean = self._noise(len(clean), rng), model.mapping.mean(generator=rng)
        named = {
            "made": model(z, noise=noise), "truncated": model(z, noise=noise, truncation=0.5, mean=mean),
            "clean": clean,
        }  # fmt: skip
        return {name: to_unit(image.clamp(-1, 1)) for name, image in named.items()}

    def _made(self, count: int, rng: torch.Generator) -> Generated:
        synthesis = self.model.synthesis
        z = torch.randn(2, count, synthesis.dim, generator=rng).to(synthesis.constant)
        starts = torch.randint(1, synthesis.slots, (count,), generator=rng)
        mixed = torch.rand(count, generator=rng) < self.recipe.mixing
        starts = torch.where(mixed, starts, synthesis.slots).to(synthesis.constant.device)
        return self.network(z, starts, self._noise(count, rng))

    def _noise(self, count: int, rng: torch.Generator) -> Noise | None:
        synthesis = self.model.synthesis
        return None if synthesis.injection == "none" else synthesis.noise(count, generator=rng)


class _Drawn(nn.Module):
    """A generator with mixed styles, as one module, so that ranks exchange the gradients of all of it."""

    def __init__(self, model: StyleGANGenerator):
        super().__init__()
        self.model = model

    def forward(self, z: Float[Tensor, "2 b d"], starts: Int[Tensor, " b"], noise: Noise | None) -> Generated:
        slots = torch.arange(self.model.synthesis.slots, device=z.device)
        first, second = (self.model.styles(one)[:, None] for one in z)
        styles = torch.where((slots < starts[:, None])[..., None], first, second)
        return Generated(self.model.synthesis(styles, noise=noise), styles)
