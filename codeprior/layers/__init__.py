"""Small modules that several rooms share: residual and attention blocks, resampling, remembered arguments."""

from codeprior.layers.attention import AttentionBlock, SelfAttentionLayer, attentive_levels
from codeprior.layers.configured import build, configured
from codeprior.layers.norm import group_norm, normed_convolution
from codeprior.layers.resample import Downsample, Upsample
from codeprior.layers.residual import ResidualBlock
from codeprior.layers.taps import Recorder, Tap, Tapped, Taps, level_steps, placed_taps, walk_level

__all__ = [
    "AttentionBlock",
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
    "group_norm",
    "level_steps",
    "normed_convolution",
    "placed_taps",
    "walk_level",
]
