"""A small untrained restorer: what is promised about files does not depend on what the network has learned."""

from pathlib import Path

import pytest
import torch

from codeprior.weights import save


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a weights file of a restorer for 64 pixels."""
    from codeprior.recipes.daefr import recipes
    from codeprior.recipes.daefr.model import restorer, vqgan

    network = recipes.Network(
        size=64, dim=16, codes=32, channels=16, multipliers=(1, 2, 4), encoder_blocks=1, decoder_blocks=1,
        attention=(), groups=8, fusion_groups=8, fusion_heads=4, width=32, layers=1, heads=4, hidden=64,
    )  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, restorer(recipes.RestorationRecipe(network=network), vqgan(network).prior()))
    return path
