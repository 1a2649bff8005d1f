"""The degradations that published models train with, each citing its source."""

from .blur import GaussianBlur
from .colour import Round
from .combine import Chain
from .compression import Jpeg
from .noise import GaussianNoise
from .resample import Resize, ResizeBack


def preset(name: str) -> Chain:
    """Gives a published degradation by name."""
    wide = name == "daefr"
    if name not in ("daefr", "daefr-codebook-lq", "daefr-association"):
        raise ValueError(f"preset: expected one of daefr, daefr-association, daefr-codebook-lq, got {name!r}.")
    return Chain(
        ops=(
            GaussianBlur(size=(39, 41), sigma=(0.1, 15 if wide else 10)),
            Resize(factor=(0.8, 30 if wide else 8)),
            GaussianNoise(sigma=(0, 20)),
            Jpeg(quality=(30 if wide else 60, 100)),
            ResizeBack(),
            Round(),
        )
    )
