"""Small modules that several rooms share: residual and attention blocks, resampling, remembered arguments."""

from codeprior._renamed import moved
from codeprior.layers.attention import AttentionBlock, SelfAttentionLayer, attentive_levels
from codeprior.layers.configured import build, configured
from codeprior.layers.deformable import DeformableConvolution
from codeprior.layers.equalised import (
    FIR,
    Blur,
    DownBlock,
    EqualisedConvolution,
    EqualisedLinear,
    batch_deviation,
    pad_down,
    pixel_norm,
    resolutions_of,
    scaled_leaky_relu,
    stylegan_channels,
    upfirdn,
)
from codeprior.layers.norm import convolved, group_norm, normed_convolution, pointwise
from codeprior.layers.resample import BilinearDownsample, BilinearUpsample, Downsample, Upsample
from codeprior.layers.residual import ResidualBlock
from codeprior.layers.stylegan import Injection, ModulatedConvolution, Resampling, StyledConvolution, ToRGB
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
    "FIR",
    "MIDDLE",
    "AttentionBlock",
    "BilinearDownsample",
    "BilinearUpsample",
    "Blur",
    "DeformableConvolution",
    "DownBlock",
    "Downsample",
    "EqualisedConvolution",
    "EqualisedLinear",
    "Injection",
    "ModulatedConvolution",
    "Recorder",
    "Resampling",
    "ResidualBlock",
    "SelfAttentionLayer",
    "StyledConvolution",
    "Tap",
    "Tapped",
    "Taps",
    "ToRGB",
    "Upsample",
    "attentive_levels",
    "batch_deviation",
    "build",
    "configured",
    "convolved",
    "group_norm",
    "level_steps",
    "middle_steps",
    "normed_convolution",
    "pad_down",
    "pixel_norm",
    "placed_taps",
    "pointwise",
    "resolutions_of",
    "scaled_leaky_relu",
    "stylegan_channels",
    "upfirdn",
    "walk_level",
    "walk_middle",
]

__getattr__ = moved("codeprior.layers", "codeprior.kernels", ("deformable_convolution",))
