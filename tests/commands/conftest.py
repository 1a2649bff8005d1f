"""A small untrained restorer: what is promised about files does not depend on what the network has learned."""

from pathlib import Path

import pytest
import torch

from codeprior.estimators import Damage
from codeprior.weights import save


class Says:
    """An estimator that says the same of every face."""

    def __init__(self, **figures: float):
        self.figures = {"blur": 0.0, "reduction": 1.0, "noise": 0.0, "quality": 100.0, "limit": 0.5} | figures

    def estimate(self, faces: torch.Tensor) -> Damage:
        return Damage(**{name: torch.full((len(faces),), value) for name, value in self.figures.items()})


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch):
    """Sets what the estimator says, by name; at first that nothing is left of any face."""

    def say(**figures: float) -> None:
        monkeypatch.setattr("codeprior.estimators.load_estimator", lambda: Says(**figures))

    say(limit=1 / 4096)
    return say


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a weights file of a restorer for 64 pixels."""
    from codeprior.recipes.daefr import settings
    from codeprior.recipes.daefr.model import restorer, vqgan

    network = settings.Network(
        size=64, dim=16, codes=32, channels=16, multipliers=(1, 2, 4), encoder_blocks=1, decoder_blocks=1,
        attention=(), groups=8, fusion_groups=8, fusion_heads=4, width=32, layers=1, heads=4, hidden=64,
    )  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, restorer(settings.RestorationRecipe(network=network), vqgan(network).prior()))
    return path
