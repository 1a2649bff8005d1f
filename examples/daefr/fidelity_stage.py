"""Stage 3b: how far the degraded face itself may change what the prior says. Ours, not the paper's.

The taps read an encoder's features: the HQ encoder as stage 3 left it, which has learned what codes need and no more,
or a copy of it that learns with the taps. See `codeprior.stages.TapsStage`.
"""

import torch
from torch import nn

from codeprior.stages import TapsStage
from codeprior.stages.fidelity import reading_encoder
from codeprior.training import Engine

from .model import DAEFR, SingleEncoder, fidelity_taps
from .settings import FidelityRecipe


class FidelityStage(TapsStage):
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
        taps, own = fidelity_taps(recipe.network), None
        if model.taps is not None:
            taps.load_state_dict(model.taps.state_dict())
        if recipe.tap_encoder == "own":
            own = reading_encoder(
                model.tap_encoder or (model.hq_encoder if isinstance(model, DAEFR) else model.encoder)
            )
        super().__init__(
            recipe, model=model.with_taps(taps, own),
            taps=taps if own is None else nn.ModuleDict({"taps": taps, "encoder": own}),
            size=recipe.network.size, perceptual=perceptual, device=device, engine=engine,
        )  # fmt: skip

    def with_taps(self, taps: nn.Module) -> nn.Module:
        """Gives the restorer of the same parts with other taps, and with their encoder where they have their own."""
        parts = (taps["taps"], taps["encoder"]) if isinstance(taps, nn.ModuleDict) else (taps,)
        return self.model.with_taps(*parts)
