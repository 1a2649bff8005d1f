"""The meaning of the convolution, step by step."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from codeprior.kernels.group_norm_silu import group_norm_silu


class Norm(NamedTuple):
    """A GroupNorm: its weights, and how it divides the channels."""

    weight: Tensor
    """`(c,)`."""
    bias: Tensor
    """`(c,)`."""
    groups: int
    """How many groups the channels fall into."""
    epsilon: float
    """Added to the variance."""


def convolution_reference(
    feature: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    norm: Norm | None = None,
    residual: Tensor | None = None,
    doubled: bool = False,
) -> Tensor:
    """Gives `residual + conv(double(silu(norm(feature))))`; each part may be missing.

    Args:
        feature: `b c h w`.
        weight: `o c 3 3`.
        bias: `(o,)`.
        norm: Normalise, then SiLU, before anything else.
        residual: `b o H W`, added at the end.
        doubled: Repeat each place twice along both sides before the convolution.
    """
    if norm is not None:
        feature = group_norm_silu(feature, norm.weight, norm.bias, groups=norm.groups, epsilon=norm.epsilon)
    if doubled:
        feature = F.interpolate(feature, scale_factor=2.0, mode="nearest")
    answer = F.conv2d(feature, weight, bias, padding=1)
    return answer if residual is None else residual + answer
