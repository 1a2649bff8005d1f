"""Fusion: two latents in, one out."""

from codeprior.fusion.cross_attention import CrossAttentionFusion
from codeprior.fusion.fidelity import ControllableTransform, FeatureModulation, FidelityTaps
from codeprior.fusion.linear import LinearFusion
from codeprior.fusion.statistics import adain
from codeprior.fusion.texture import TextureBranch, TextureWarp, Warped, doubled_trace

__all__ = [
    "ControllableTransform",
    "CrossAttentionFusion",
    "FeatureModulation",
    "FidelityTaps",
    "LinearFusion",
    "TextureBranch",
    "TextureWarp",
    "Warped",
    "adain",
    "doubled_trace",
]
