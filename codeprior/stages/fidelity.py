"""Fidelity taps: how far the degraded image itself may change what the prior says.

The restorer stays as it is; taps learn to modulate its decoder by an encoder's features. What is lost to codes, such as
the shape of an eye that the degraded face still shows, can then come back. Its decoder may learn with them.
"""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from codeprior.encoders import VQGANEncoder
from codeprior.images import to_unit
from codeprior.layers import build
from codeprior.losses import chroma_loss, crop_parts, hatch_loss, pyramid_loss
from codeprior.shapes import Image
from codeprior.stages.pairs import Faces, Measured
from codeprior.stages.settings import FidelitySettings
from codeprior.stages.updates import adam, perceptual_precision, update_by, weighted
from codeprior.training import Batch, Engine, TorchEngine, WeightAverage, full


class TapsStage:
    """Trains the fidelity taps of a restorer.

    Args:
        recipe: The settings.
        model: The restorer with its taps. Called are `predict(degraded)`, which gives a prediction and what the taps
            read, `decode(prediction, read, fidelity=)` and `restore(degraded, fidelity=)`.
        taps: What is trained of it; everything else is frozen.
        size: Side of the images, pixels.
        perceptual: Distance of two signed images.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The share of faces that the codes alone restore is not in [0, 1).
    """

    measured: Measured = "restored"

    def __init__(
        self,
        recipe: FidelitySettings,
        *,
        model: nn.Module,
        taps: nn.Module,
        size: int,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        if not 0 <= recipe.codes_alone < 1:
            raise ValueError(
                f"TapsStage: codes_alone is {recipe.codes_alone}; expected a share of each batch in [0, 1)."
            )
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        self.faces = Faces.of(recipe, size=size, device=device)
        self.perceptual = perceptual.to(device)
        self.model: Any = model.to(device).requires_grad_(False)
        self.taps = taps.requires_grad_(True)
        # the wrapped decoder holds the only parameters that are trained: those of the taps and of their encoder
        self.decoder = self.engine.wrap(_Decoder(self.model, recipe.codes_alone))
        self.optimizer = adam(self.taps, recipe)
        self.average = WeightAverage(self.taps, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        return {"taps": self.taps, "optimizer": self.optimizer, **self.average.parts}

    @property
    def result(self) -> Any:
        """The restorer with its taps: the average of their weights where there is one."""
        return self.model if self.average.decay is None else self.with_taps(self.average.module)

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores."""
        return {"restorer": self.result}

    def with_taps(self, taps: nn.Module) -> nn.Module:
        """Gives the restorer of the same parts with other taps; a stage that averages its weights says how.

        Args:
            taps: As those that are trained.
        """
        return self.model.with_taps(taps)

    def restore(self, degraded: Image) -> Image:
        """Gives what the restorer with its taps makes of degraded images `b 3 H W`, signed."""
        return self.result.eval().restore(degraded)

    answer = restore

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        self.model.eval()
        return update_by(
            self._losses, batch, step, settings=self.recipe, engine=self.engine, network=self.decoder,
            optimizer=self.optimizer, average=self.average,
        )  # fmt: skip

    def losses(self, degraded: Image, clean: Image) -> dict[str, Tensor]:
        """Gives the terms by name, and `total`, their weighted sum.

        Args:
            degraded: `b 3 H W`, signed.
            clean: The same images, signed.
        """
        with self.engine.autocast():
            image = full(self.decoder(degraded))
        pairs = {"": (image, clean)}
        if any(name.startswith("parts") for name in self.recipe.weights):
            size = _parts_size(clean)
            pairs["parts"] = (_parts(image, size), _parts(clean, size))
        losses = {
            "pyramid": (pyramid_loss, ""), "chroma": (chroma_loss, ""), "perceptual": (self._differ, ""),
            "hatch": (hatch_loss, ""),
            "parts": (_of_pixels, "parts"), "parts_perceptual": (self._differ, "parts"),
        }  # fmt: skip
        terms = {name: losses[name][0](*pairs[losses[name][1]]) for name in self.recipe.weights}
        return terms | {"total": weighted(terms, self.recipe.weights)}

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded image, what the prior says, what the taps make of it, and the truth."""
        pair, model = self.faces(batch), self.result.eval()
        return {
            "degraded": to_unit(pair.degraded),
            "fidelity 0": to_unit(model.restore(pair.degraded, fidelity=0.0)),
            "fidelity 1": to_unit(model.restore(pair.degraded, fidelity=1.0)),
            "clean": to_unit(pair.clean),
        }

    def _losses(self, part: Batch) -> dict[str, Tensor]:
        pair = self.faces(part)
        return self.losses(pair.degraded, pair.clean)

    def _differ(self, image: Image, clean: Image) -> Tensor:
        with perceptual_precision(self.engine, self.recipe.perceptual):
            return full(self.perceptual(image, clean))


class _Decoder(nn.Module):
    """From degraded images to restored ones, with a graph through the decoder alone."""

    def __init__(self, model: Any, codes_alone: float):
        super().__init__()
        self.model, self.codes_alone = model, codes_alone

    def forward(self, degraded: Image) -> Image:
        fidelity: float | Tensor = 1.0
        if self.codes_alone:
            fidelity = degraded.new_ones(len(degraded))
            fidelity[: max(1, round(self.codes_alone * len(degraded)))] = 0.0
        return self.model.decode(*self.model.predict(degraded), fidelity=fidelity)


def _parts_size(images: Image) -> int:
    """Gives the side of crops: about twice what eyes have, and a multiple of what a pyramid halves."""
    return max(8, min(images.shape[-2:]) * 3 // 8 // 4 * 4)


def _parts(images: Image, size: int) -> Image:
    return crop_parts(images, size=size).flatten(0, 1)


def _of_pixels(image: Image, clean: Image) -> Tensor:
    return pyramid_loss(image, clean) + 0.5 * chroma_loss(image, clean)


def reading_encoder(encoder: nn.Module) -> nn.Module:
    """Gives a copy of an encoder that only taps read: a VQGAN's loses its middle, which the end of no level sees.

    Args:
        encoder: Of a restorer.
    """
    if not isinstance(encoder, VQGANEncoder):
        return copy.deepcopy(encoder)
    copied = build(cast(dict[str, Any], encoder.config) | {"middle": False})
    copied.load_state_dict({key: value for key, value in encoder.state_dict().items() if not key.startswith("middle.")})
    return copied
