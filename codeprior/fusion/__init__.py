"""Fusion: two latents in, one out."""

from codeprior.fusion.cross_attention import CrossAttentionFusion
from codeprior.fusion.fidelity import FeatureModulation, FidelityTaps
from codeprior.fusion.linear import LinearFusion

__all__ = ["CrossAttentionFusion", "FeatureModulation", "FidelityTaps", "LinearFusion"]
