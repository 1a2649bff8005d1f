"""Ops on tensors, each with a plain reference and faster implementations that give the same answer."""

from codeprior.kernels._choose import use_impl
from codeprior.kernels._explain import explain
from codeprior.kernels.blur_resize import blur_resize
from codeprior.kernels.code_stats import CodeStats, code_stats
from codeprior.kernels.contrastive import gathered_cross_entropy, symmetric_cross_entropy
from codeprior.kernels.convolution import Norm, convolution
from codeprior.kernels.crop_resize import crop_resize
from codeprior.kernels.deformable_convolution import deformable_convolution
from codeprior.kernels.group_norm_silu import group_norm_silu
from codeprior.kernels.jpeg import jpeg, quality_tables
from codeprior.kernels.nearest_code import Lookup, lookup, nearest_code, residual_code
from codeprior.kernels.normal_field import normal_field
from codeprior.kernels.ops import ImplUnavailable
from codeprior.kernels.prelu_convolution import prelu_convolution

__all__ = [
    "CodeStats",
    "ImplUnavailable",
    "Lookup",
    "Norm",
    "blur_resize",
    "code_stats",
    "convolution",
    "crop_resize",
    "deformable_convolution",
    "explain",
    "gathered_cross_entropy",
    "group_norm_silu",
    "jpeg",
    "lookup",
    "nearest_code",
    "normal_field",
    "prelu_convolution",
    "quality_tables",
    "residual_code",
    "symmetric_cross_entropy",
    "use_impl",
]
