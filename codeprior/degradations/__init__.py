"""Distortions that draw from an explicit generator and can be replayed: ops, combinators and published presets."""

from codeprior._renamed import former_module

from .blur import Blur, DefocusBlur, GaussianBlur, GeneralisedBlur, KernelMix, MotionBlur, PlateauBlur, Sinc
from .chain import Chain, Pair, Paired, Step, steps
from .choose import Maybe, OneOf, Shuffle
from .colour import ChannelShift, Clamp, ColourJitter, Grey, Round
from .jpeg import Jpeg
from .noise import GaussianNoise, PoissonNoise, SpeckleNoise
from .op import Op, Traced, definition
from .presets import About, about_preset, codeformer_pair, preset, preset_names
from .record import Params, concatenate
from .resample import Rescale, Resize, ResizeBack
from .sharpen import BrushStrokes, Unsharp

__all__ = [
    "About",
    "Blur",
    "BrushStrokes",
    "Chain",
    "ChannelShift",
    "Clamp",
    "ColourJitter",
    "DefocusBlur",
    "GaussianBlur",
    "GaussianNoise",
    "GeneralisedBlur",
    "Grey",
    "Jpeg",
    "KernelMix",
    "Maybe",
    "MotionBlur",
    "OneOf",
    "Op",
    "Pair",
    "Paired",
    "Params",
    "PlateauBlur",
    "PoissonNoise",
    "Rescale",
    "Resize",
    "ResizeBack",
    "Round",
    "Shuffle",
    "Sinc",
    "SpeckleNoise",
    "Step",
    "Traced",
    "Unsharp",
    "about_preset",
    "codeformer_pair",
    "concatenate",
    "definition",
    "preset",
    "preset_names",
    "steps",
]

for _old, _new in {"combine": "chain", "compression": "jpeg", "steps": "chain"}.items():
    former_module(f"{__name__}.{_old}", f"{__name__}.{_new}")
