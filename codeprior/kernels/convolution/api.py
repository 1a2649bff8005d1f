"""The public convolution: checks the shapes, chooses an implementation, and calls it."""

import torch
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels._layout import why_unfit_for_cpp
from codeprior.kernels.convolution import compiled
from codeprior.kernels.convolution.reference import Norm, convolution_reference

_SMALLEST = 32 * 32  # places below which transforming many kernels costs more than it saves
_SMALLER = 16 * 16  # the same where the transformed kernels stay in the cache: of 2^16 to 256 * 256 * 9 numbers
_MODERATE = range(2**16, 256 * 256 * 9 + 1)
_FEWEST = 2**22  # multiplications below which compiling never pays
_FEW = 8 * 8  # places for which PyTorch takes longer to bring the kernels into the feature's order than to convolve


def convolution(
    feature: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    norm: Norm | None = None,
    residual: Tensor | None = None,
    doubled: bool = False,
    impl: str | None = None,
) -> Tensor:
    """Gives a 3×3 convolution with the steps around it in a VQGAN: `residual + conv(double(silu(norm(x))))`.

    Args:
        feature: `b c h w`.
        weight: `o c 3 3`; stride 1, padded by one place of zeros on all sides.
        bias: `(o,)`.
        norm: GroupNorm, followed by SiLU, before the convolution.
        residual: `b o H W`, added to the answer.
        doubled: Repeat each place twice along both sides before the convolution (nearest neighbour).
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        `b o H W`, with `H = 2 h` where doubled. The compiled implementation gives it as channels_last.

    Raises:
        ValueError: The shapes do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    if feature.ndim != 4 or weight.shape[1:] != (feature.shape[1], 3, 3):
        raise ValueError(
            f"convolution: expected a feature (b, c, h, w) and a weight (o, c, 3, 3), got {tuple(feature.shape)} and "
            f"{tuple(weight.shape)}."
        )
    if norm is not None and (norm.weight.shape != feature.shape[1:2] or feature.shape[1] % norm.groups):
        raise ValueError(
            f"convolution: a norm of {tuple(norm.weight.shape)} weights in {norm.groups} groups does not fit "
            f"{feature.shape[1]} channels."
        )
    shape = (feature.shape[0], weight.shape[0], *(side * (1 + doubled) for side in feature.shape[2:]))
    if residual is not None and residual.shape != shape:
        raise ValueError(f"convolution: expected a residual {tuple(shape)}, got {tuple(residual.shape)}.")
    tensors = [part for part in (feature, weight, bias, residual, *(norm or ())[:2]) if isinstance(part, Tensor)]
    slow = _why_slow(shape[2] * shape[3], weight)
    if choose("convolution", impl, str(feature.device), unfit=why_unfit_for_cpp(tensors), slow=slow) == "reference":
        if _is_small(feature, shape):
            feature = feature.contiguous()
        return convolution_reference(feature, weight, bias, norm=norm, residual=residual, doubled=doubled)
    return convolution_op(feature, weight, bias, *(norm or (None, None, 1, 0.0)), residual, doubled)


@torch.library.custom_op("codeprior::convolution", mutates_args=())
def convolution_op(
    feature: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    groups: int,
    epsilon: float,
    residual: Tensor | None,
    doubled: bool,
) -> Tensor:
    """The compiled convolution; without gradients."""
    norm = None if norm_weight is None or norm_bias is None else Norm(norm_weight, norm_bias, groups, epsilon)
    return compiled.convolve(feature, weight, bias, norm, residual, doubled)


@convolution_op.register_fake
def _(feature, weight, bias, norm_weight, norm_bias, groups, epsilon, residual, doubled) -> Tensor:
    batch, _, height, width = feature.shape
    shape = (batch, weight.shape[0], height * (1 + doubled), width * (1 + doubled))
    return torch.empty(shape, dtype=feature.dtype, device=feature.device, memory_format=torch.channels_last)


def _is_small(feature: Tensor, shape: tuple[int, ...]) -> bool:
    return feature.device.type == "cpu" and not torch.is_grad_enabled() and shape[2] * shape[3] <= _FEW


def _why_slow(places: int, weight: Tensor) -> str | None:
    # a size that is traced is no int, and `in` would compare it with every number of the range
    smallest = _SMALLER if _MODERATE.start <= weight.numel() < _MODERATE.stop else _SMALLEST
    few = places < smallest or places * weight.numel() < _FEWEST
    return "on so small a grid it is not faster" if few else None
