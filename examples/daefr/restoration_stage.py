"""Stage 3: which clean codes stand behind a degraded face, see `codeprior.stages.CodeStage`."""

import torch

from codeprior.prior import VQGAN
from codeprior.stages import CodeStage
from codeprior.training import Engine

from .model import DAEFR, restorer
from .settings import RestorationRecipe


class RestorationStage(CodeStage):
    """Trains the encoders, the fusion and the code predictor of a restorer.

    Args:
        recipe: The configuration.
        teacher: The VQGAN of stage 1a: it gives the targets and the prior, and is frozen.
        hq: The HQ VQGAN of stage 2, whose encoder begins the HQ branch; of stage 1a for the single branch.
        lq: The LQ VQGAN of stage 2, whose encoder begins the LQ branch; None for the single branch.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: A dual recipe came without `lq`.
    """

    def __init__(
        self,
        recipe: RestorationRecipe,
        *,
        teacher: VQGAN,
        hq: VQGAN,
        lq: VQGAN | None = None,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        self.prior = teacher.prior()
        model = restorer(recipe, self.prior)
        if isinstance(model, DAEFR):
            if lq is None:
                raise ValueError("RestorationStage: a dual recipe needs the LQ network of stage 2; pass lq=.")
            model.hq_encoder.load_state_dict(hq.encoder.state_dict())
            model.lq_encoder.load_state_dict(lq.encoder.state_dict())
        else:
            model.encoder.load_state_dict(hq.encoder.state_dict())
        super().__init__(recipe, model=model, teacher=teacher, size=recipe.network.size, device=device, engine=engine)
