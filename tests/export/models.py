"""A small model of every family, of 16 pixels a side, and how each is asked."""

from collections.abc import Callable

from torch import nn

from codeprior.codebooks import Codebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.fusion import CrossAttentionFusion, FidelityTaps
from codeprior.predictors import CodePredictor
from codeprior.prior import CodePrior
from codeprior.recipes.daefr import DAEFR, SingleEncoder
from codeprior.recipes.gfpgan.model import fresh as gfpgan
from codeprior.recipes.gpen import GPEN
from tests import small_families
from tests.small_families import BARE, CODES, DIM, SIZES, _drawn


def daefr(*, decoding: str = "argmax") -> DAEFR:
    """Gives a DAEFR with taps."""
    prior = CodePrior(Codebook(CODES, DIM), VQGANDecoder(DIM, **SIZES, **BARE))
    taps = FidelityTaps([4, 2, 1], [64, 32, 32], [64, 32, 32], hidden=8)
    encoders = (VQGANEncoder(DIM, **SIZES, **BARE) for _ in range(2))
    predictor = CodePredictor(DIM, CODES, grid=(4, 4), width=32, layers=1, hidden=32)
    return _drawn(DAEFR(prior, *encoders, CrossAttentionFusion(DIM, heads=4), predictor, taps=taps, decoding=decoding))


def single() -> SingleEncoder:
    """Gives a DAEFR of one encoder without taps, the smallest model of all."""
    sizes = SIZES | {"multipliers": (1, 1), "blocks": 1, "attention": ()}
    prior = CodePrior(Codebook(CODES, DIM), VQGANDecoder(DIM, **sizes))
    predictor = CodePredictor(DIM, CODES, grid=(8, 8), width=32, layers=1, hidden=32)
    return _drawn(SingleEncoder(prior, VQGANEncoder(DIM, **sizes), predictor))


def sized(model: nn.Module) -> nn.Module:
    """Gives a model of any size, set to 16 pixels."""
    model.size = 16
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "codeformer": small_families.codeformer,
    "daefr": daefr,
    "daefr_expectation": lambda: daefr(decoding="expectation"),
    "gfpgan": lambda: _drawn(gfpgan(16, dim=16, multiplier=1, narrow=1 / 16)),
    "gpen": lambda: _drawn(GPEN(16, dim=16, layers=2, multiplier=1, narrow=1 / 16)),
    "restoreformer": lambda: sized(small_families.restoreformer()),
    "restoreformer++": lambda: sized(small_families.restoreformer(plus=True)),
    "vqfr_v1": lambda: sized(small_families.vqfr1()),
    "vqfr_v2": lambda: sized(small_families.vqfr2()),
    "vqfr_v2_nearest": lambda: sized(small_families.vqfr2(predicted=False)),
}
"""By family; each takes faces of 16 pixels."""
