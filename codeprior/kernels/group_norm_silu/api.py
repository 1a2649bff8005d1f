"""The public op: checks the shapes, chooses an implementation, and calls it."""

import torch
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels.group_norm_silu.reference import group_norm_silu_reference


def group_norm_silu(
    feature: Tensor, weight: Tensor, bias: Tensor, *, groups: int, epsilon: float = 1e-6, impl: str | None = None
) -> Tensor:
    """Gives a feature normalised by groups of channels and activated: `silu(group_norm(feature))`.

    Args:
        feature: `b c h w`, any floating type; contiguous or channels_last, others are copied.
        weight: `(c,)`.
        bias: `(c,)`.
        groups: How many groups of neighbouring channels share their mean and variance.
        epsilon: Added to the variance.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        `b c h w` in the feature's type and layout. Moments are taken in float32 whatever the type.

    Raises:
        ValueError: The shapes do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.

    Source: Wu & He 2018 (GroupNorm); the pair stands before every convolution of Esser et al. 2021.
    """
    if feature.ndim != 4 or weight.shape != feature.shape[1:2] or bias.shape != feature.shape[1:2]:
        raise ValueError(
            f"group_norm_silu: expected a feature (b, c, h, w), weight (c,) and bias (c,), got {tuple(feature.shape)}, "
            f"{tuple(weight.shape)} and {tuple(bias.shape)}."
        )
    if feature.shape[1] % groups:
        raise ValueError(f"group_norm_silu: {feature.shape[1]} channels do not divide into {groups} groups.")
    unfit = {}
    if feature.dtype == torch.float64:
        unfit = {"triton": "its moments are float32, too coarse for float64"}
    if choose("group_norm_silu", impl, str(feature.device), unfit=unfit) == "reference":
        return group_norm_silu_reference(feature, weight, bias, groups, epsilon)
    from codeprior.kernels.group_norm_silu import fused

    return fused.forward(feature, weight, bias, groups, epsilon)[0]
