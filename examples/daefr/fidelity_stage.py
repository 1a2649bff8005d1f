"""Stages 3b and 3c: how far the degraded face itself may change what the prior says. Ours, not the paper's.

The taps read an encoder's features: the HQ encoder as stage 3 left it, which has learned what codes need and no more,
or a copy of it that learns with the taps. In stage 3c the decoder, which has seen the codes of clean faces alone until
then, learns from what is predicted and from the taps. See `codeprior.stages.TapsStage`.
"""

from typing import cast

import torch
from torch import nn

from codeprior.decoders import Decoder
from codeprior.prior import CodePrior
from codeprior.stages import TapsStage
from codeprior.stages.fidelity import reading_encoder
from codeprior.training import Engine

from .model import DAEFR, SingleEncoder, fidelity_taps
from .settings import FidelityRecipe


class FidelityStage(TapsStage):
    """Trains the fidelity taps of a restorer.

    Args:
        recipe: The configuration.
        model: The restorer of stage 3; it is frozen, but for its taps, their own encoder and, where the recipe says
            so, its decoder. Taps that it has are trained further.
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
        taps, own = fidelity_taps(recipe.network), None
        if model.taps is not None:
            taps.load_state_dict(model.taps.state_dict())
        if recipe.tap_encoder == "own":
            own = reading_encoder(
                model.tap_encoder or (model.hq_encoder if isinstance(model, DAEFR) else model.encoder)
            )
        parts = {"taps": taps, "encoder": own, "decoder": model.prior.decoder if recipe.decoder == "trained" else None}
        learn = {name: part for name, part in parts.items() if part is not None}
        super().__init__(
            recipe, model=model.with_taps(taps, own), taps=taps if len(learn) == 1 else nn.ModuleDict(learn),
            size=recipe.network.size, perceptual=perceptual, device=device, engine=engine,
        )  # fmt: skip

    def with_taps(self, taps: nn.Module) -> nn.Module:
        """Gives the restorer of the same parts with other taps, and with what has learned with them."""
        if not isinstance(taps, nn.ModuleDict):
            return self.model.with_taps(taps)
        parts, prior = dict(taps.items()), self.model.prior
        if "decoder" in parts:
            prior = CodePrior(prior.codebook, cast(Decoder, parts["decoder"]))
        return self.model.with_taps(parts["taps"], parts.get("encoder"), prior=prior)
