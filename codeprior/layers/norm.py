"""The normalisation of all convolutional networks here, GroupNorm over 32 groups, and the convolution after it."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.kernels._layout import places_together
from codeprior.kernels.convolution import Norm, convolution

# seen with PyTorch 2.8 and 2.13, not with 2.14
_CRASHES = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 14)


def group_norm(channels: int, *, groups: int = 32) -> nn.GroupNorm:
    """Gives a GroupNorm with the family's epsilon.

    Args:
        channels: Channels of the feature.
        groups: How many groups they are divided into.

    Raises:
        ValueError: `channels` does not divide into `groups`.

    Source: Esser et al. 2021 (VQGAN), whose decoders and encoders use 32 groups and epsilon 1e-6 throughout.
    """
    if channels % groups:
        raise ValueError(
            f"group_norm: {channels} channels do not divide into {groups} groups; set groups to a divisor."
        )
    return _GroupNorm(groups, channels, eps=1e-6)


class _GroupNorm(nn.GroupNorm):
    def forward(self, input: Tensor) -> Tensor:
        # its backward pass ends the process there: channels-last features that need no gradient, weights that do
        if _CRASHES and torch.is_grad_enabled() and not input.requires_grad and input.device.type == "cpu":
            input = input.contiguous()
        return super().forward(places_together(input))


def normed_convolution(
    norm: nn.GroupNorm, layer: nn.Conv2d, *, feature: Tensor, residual: Tensor | None = None, activated: bool = True
) -> Tensor:
    """Gives `residual + layer(silu(norm(feature)))`, in as few passes over memory as the device allows.

    Args:
        norm: What `group_norm` gives.
        layer: A 3×3 convolution of stride 1, padded by one.
        feature: `b c h w`.
        residual: `b c2 h w`; nothing is added without it.
        activated: Whether SiLU stands between the two.

    Returns:
        `b c2 h w`.

    Note:
        The two are called as modules where gradients are recorded or something is hooked to one of them, as adaptive
        weights are to the last layer.
    """
    if not activated:
        answer = layer(norm(feature))
        return answer if residual is None else residual + answer
    if torch.is_grad_enabled() or any(part._forward_hooks or part._forward_pre_hooks for part in (norm, layer)):
        answer = layer(F.silu(norm(feature)))
        return answer if residual is None else residual + answer
    fused_norm = Norm(norm.weight, norm.bias, norm.num_groups, norm.eps)
    return convolution(feature, layer.weight, layer.bias, norm=fused_norm, residual=residual)


def convolved(layer: nn.Conv2d, feature: Tensor) -> Tensor:
    """Gives `layer(feature)`, by the fastest 3×3 convolution that the device has.

    Args:
        layer: A 3×3 convolution of stride 1, padded by one.
        feature: `b c h w`.

    Returns:
        `b c2 h w`.

    Note:
        The layer is called as a module where gradients are recorded or something is hooked to it.
    """
    if torch.is_grad_enabled() or layer._forward_hooks or layer._forward_pre_hooks:
        return layer(feature)
    return convolution(feature, layer.weight, layer.bias)


def pointwise(layer: nn.Conv2d, feature: Tensor) -> Tensor:
    """Gives `layer(feature)`; features on a CPU whose channels lie together are multiplied as they are.

    PyTorch would bring such a feature into another order for a 1×1 convolution, and its answer back.

    Args:
        layer: A 1×1 convolution.
        feature: `b c h w`.

    Returns:
        `b c2 h w`.

    Note:
        The layer is called as a module where gradients are recorded or something is hooked to it.
    """
    recorded = torch.is_grad_enabled() or layer._forward_hooks or layer._forward_pre_hooks
    together = feature.device.type == "cpu" and feature.is_contiguous(memory_format=torch.channels_last)
    if recorded or not together or torch.compiler.is_compiling():
        return layer(feature)
    places = rearrange(feature, "b c h w -> b h w c")
    return rearrange(F.linear(places, layer.weight.flatten(1), layer.bias), "b h w c -> b c h w")
