"""Small modules that several rooms share: residual and attention blocks, resampling, remembered arguments."""

from codeprior.layers.attention import AttentionBlock, SelfAttentionLayer, attentive_levels
from codeprior.layers.configured import build, configured
from codeprior.layers.deformable import DeformableConvolution, DeformableImpl, deformable_convolution
from codeprior.layers.norm import group_norm, normed_convolution
from codeprior.layers.resample import BilinearDownsample, BilinearUpsample, Downsample, Upsample
from codeprior.layers.residual import ResidualBlock
from codeprior.layers.taps import (
    MIDDLE,
    Recorder,
    Tap,
    Tapped,
    Taps,
    level_steps,
    middle_steps,
    placed_taps,
    walk_level,
    walk_middle,
)

__all__ = [
    "MIDDLE",
    "AttentionBlock",
    "BilinearDownsample",
    "BilinearUpsample",
    "DeformableConvolution",
    "DeformableImpl",
    "Downsample",
    "Recorder",
    "ResidualBlock",
    "SelfAttentionLayer",
    "Tap",
    "Tapped",
    "Taps",
    "Upsample",
    "attentive_levels",
    "build",
    "configured",
    "deformable_convolution",
    "group_norm",
    "level_steps",
    "middle_steps",
    "normed_convolution",
    "placed_taps",
    "walk_level",
    "walk_middle",
]
