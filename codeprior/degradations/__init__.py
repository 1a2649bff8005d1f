"""Distortions that draw from an explicit generator, and can be replayed."""

from .blur import DefocusBlur, GaussianBlur, GeneralisedBlur, KernelMix, MotionBlur, PlateauBlur, Sinc
from .colour import Round
from .combine import Chain
from .compression import Jpeg
from .noise import GaussianNoise
from .op import Op, Traced
from .presets import preset
from .record import Params, concatenate
from .resample import Rescale, Resize, ResizeBack

__all__ = [
    "Chain",
    "DefocusBlur",
    "GaussianBlur",
    "GaussianNoise",
    "GeneralisedBlur",
    "Jpeg",
    "KernelMix",
    "MotionBlur",
    "Op",
    "Params",
    "PlateauBlur",
    "Rescale",
    "Resize",
    "ResizeBack",
    "Round",
    "Sinc",
    "Traced",
    "concatenate",
    "preset",
]
