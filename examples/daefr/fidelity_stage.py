"""Stage 3b: how far the degraded face itself may change the prior's word. Ours, not the paper's.

The restorer of stage 3 stays as it is; taps learn to modulate its decoder by an encoder's features. What is lost to
codes, such as the shape of an eye that the degraded face still shows, can then come back. The encoder is the HQ encoder
as stage 3 left it, which has learned what codes need and no more, or a copy of it that learns with the taps.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from codeprior import to_unit
from codeprior.losses import chroma_loss, pyramid_loss
from codeprior.shapes import Image
from codeprior.training import Batch, Engine, TorchEngine, WeightAverage, full, step_if_finite

from .data import Faces
from .model import DAEFR, SingleEncoder, fidelity_taps
from .recipes import FidelityRecipe
from .updates import adam, apart, means, perceptual_precision, rate_at


class FidelityStage:
    """Trains the fidelity taps of a restorer.

    Args:
        recipe: The configuration.
        model: The restorer of stage 3; it is frozen, but for its taps and their own encoder; those that it has are
            trained further.
        perceptual: Distance of two signed images.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.
    """

    def __init__(
        self,
        recipe: FidelityRecipe,
        *,
        model: DAEFR | SingleEncoder,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        self.recipe = recipe
        self.engine = engine or TorchEngine(device)
        device, network = self.engine.device, recipe.network
        self.faces = Faces(
            size=network.size, degradation=recipe.degradation, degradation_size=recipe.degradation_size, device=device
        )
        self.perceptual = perceptual.to(device)
        taps, own = fidelity_taps(network), None
        if model.taps is not None:
            taps.load_state_dict(model.taps.state_dict())
        if recipe.tap_encoder == "own":
            own = copy.deepcopy(model.tap_encoder or (model.hq_encoder if isinstance(model, DAEFR) else model.encoder))
        self.model = model.with_taps(taps, own).to(device)
        self.model.requires_grad_(False)
        self.taps: nn.Module = taps if own is None else nn.ModuleDict({"taps": taps, "encoder": own})
        self.taps.requires_grad_(True)
        # the wrapped decoder holds the only parameters that are trained: those of the taps and of their encoder
        self.decoder = self.engine.wrap(_Decoder(self.model))
        self.optimizer = adam(self.taps, recipe)
        self.average = None if recipe.average is None else WeightAverage(self.taps, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        parts = {"taps": self.taps, "optimizer": self.optimizer}
        return parts if self.average is None else parts | {"average": self.average}

    @property
    def result(self) -> DAEFR | SingleEncoder:
        """The restorer with its taps: the average of their weights where there is one."""
        if self.average is None:
            return self.model
        found = self.average.module
        parts = (found["taps"], found["encoder"]) if isinstance(found, nn.ModuleDict) else (found,)
        return self.model.with_taps(*parts)

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores faces."""
        return {"restorer": self.result}

    def restore(self, degraded: Image) -> Image:
        """Gives what the restorer with its taps makes of degraded faces `b 3 H W`, signed."""
        return self.result.eval().restore(degraded)

    def losses(self, degraded: Image, clean: Image) -> dict[str, Tensor]:
        """Gives the terms by name, and `total`, their weighted sum.

        Args:
            degraded: `b 3 H W`, signed.
            clean: The same faces, signed.
        """
        with self.engine.autocast():
            image = full(self.decoder(degraded))
        terms = {"pyramid": pyramid_loss, "chroma": chroma_loss, "perceptual": self._differ}
        parts = {name: terms[name](image, clean) for name in self.recipe.weights}
        return parts | {"total": torch.stack([self.recipe.weights[name] * part for name, part in parts.items()]).sum()}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        self.model.eval()
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.recipe, step)
        self.optimizer.zero_grad(set_to_none=True)
        parts, found = batch.parts(self.recipe.accumulate), []
        for number, part in enumerate(parts):
            pair = self.faces(part)
            with apart(self.engine, number + 1 == len(parts), self.decoder):
                losses = self.losses(pair.degraded, pair.clean)
                self.engine.backward([losses["total"] / len(parts)])
            found.append({name: value.detach() for name, value in losses.items()})
        skipped = step_if_finite(self.optimizer, clip=self.recipe.clip)
        if self.average is not None:
            self.average.update()
        return means(found) | {"skipped": skipped}

    def _differ(self, image: Image, clean: Image) -> Tensor:
        with perceptual_precision(self.engine, self.recipe.perceptual):
            return full(self.perceptual(image, clean))

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded face, the prior's word, what the taps make of it, and the truth."""
        pair, model = self.faces(batch), self.result.eval()
        return {
            "degraded": to_unit(pair.degraded),
            "fidelity 0": to_unit(model.restore(pair.degraded, fidelity=0.0)),
            "fidelity 1": to_unit(model.restore(pair.degraded, fidelity=1.0)),
            "clean": to_unit(pair.clean),
        }


class _Decoder(nn.Module):
    """From degraded faces to restored ones, with a graph through the decoder alone."""

    def __init__(self, model: DAEFR | SingleEncoder):
        super().__init__()
        self.model = model

    def forward(self, degraded: Image) -> Image:
        return self.model.decode(*self.model.predict(degraded), fidelity=1.0)
