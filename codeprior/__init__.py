"""Codebook-prior building blocks for image restoration.

Every public name stands in one table, and for type checkers in `__init__.pyi`. The room behind a name is imported on
first use, so that `import codeprior` stays light: no triton, timm, torchvision, OpenCV or vector-quantize-pytorch until
something needs them.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    # images and shapes
    "to_signed": "images",
    "to_unit": "images",
    # encoders, decoders, fusion, predictors, prior
    "VQGANEncoder": "encoders",
    "TimmEncoder": "encoders",
    "VQGANDecoder": "decoders",
    "CrossAttentionFusion": "fusion",
    "CodePredictor": "predictors",
    "VQGAN": "prior",
    "CodePrior": "prior",
    # codebooks
    "Codebook": "codebooks",
    "MovingAverageCodebook": "codebooks",
    "Quantized": "codebooks",
    # losses and discriminators
    "code_loss": "losses",
    "codebook_loss": "losses",
    "association_loss": "losses",
    "PerceptualLoss": "losses",
    "PatchGAN": "discriminators",
    # restorers and weights
    "Restorer": "restorers",
    "load_restorer": "restorers",
    "save": "weights",
    "load": "weights",
}
_ROOMS = (
    "checkpoints", "codebooks", "decoders", "degradations", "discriminators", "distributed", "encoders", "estimators",
    "evaluation", "export", "families", "fusion", "generators", "hub", "images", "kernels", "layers", "losses",
    "metrics", "photos", "plots", "predictors", "prior", "restorers", "shapes", "stages", "training", "weights",
)  # fmt: skip

__all__ = [*_PUBLIC, *_ROOMS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(f"codeprior.{_PUBLIC[name]}"), name)
    elif name in _ROOMS:
        value = import_module(f"codeprior.{name}")
    else:
        raise AttributeError(f"module 'codeprior' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
