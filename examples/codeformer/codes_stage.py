"""Stage II: which clean codes stand behind a degraded face, see `codeprior.stages.CodeStage`."""

import torch

from codeprior.prior import VQGAN
from codeprior.stages import CodeStage
from codeprior.training import Engine

from .model import fresh
from .settings import CodesSettings


class CodesStage(CodeStage):
    """Trains the encoder and the code predictor of a CodeFormer; the decoder never runs.

    Args:
        settings: The configuration.
        teacher: The auto-encoder of the first stage, frozen: it gives targets, prior and the encoder's beginning.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Note:
        The published options build the teacher without weights unless a path is added to them; here it is an argument.
    """

    def __init__(
        self,
        settings: CodesSettings,
        *,
        teacher: VQGAN,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        super().__init__(
            settings, model=fresh(settings.network, teacher, task=settings.task), teacher=teacher,
            size=settings.network.size, device=device, engine=engine,
        )  # fmt: skip
