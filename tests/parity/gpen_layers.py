"""The recorded layers of StyleGAN2, computed anew from the names of their tensors."""

import math

import torch
from torch import Tensor, nn

from codeprior.layers import (
    Blur,
    DownBlock,
    EqualisedConvolution,
    EqualisedLinear,
    ModulatedConvolution,
    StyledConvolution,
    ToRGB,
    pixel_norm,
)
from tests.parity import fill

OFFICIAL = {
    "conv.weight": "conv.weight", "conv.modulation.weight": "conv.modulation.weight",
    "conv.modulation.bias": "conv.modulation.bias", "noise_weight": "noise.weight", "bias": "activate.bias",
}  # fmt: skip


def _unit(name: str, shape: tuple[int, ...]) -> Tensor:
    return fill.tensor_for(name, shape) * math.sqrt(math.prod(shape[1:]))


def _filled(module: nn.Module, stem: str, names: dict[str, str]) -> nn.Module:
    """Fills a module by the official names of its tensors; a modulated weight has a leading one there."""
    with torch.no_grad():
        for mine, value in module.named_parameters():
            theirs = names.get(mine, mine)
            shape = tuple(value.shape)
            if mine == "bias" and isinstance(module, ToRGB):
                shape = (1, 3, 1, 1)
            if mine.endswith("weight") and value.ndim == 4 and isinstance(module, _MODULATED):
                shape = (1, *shape)
            given = _unit if theirs.endswith("weight") and len(shape) > 1 else fill.tensor_for
            added = 1 if theirs.endswith("modulation.bias") else 0
            value.copy_(given(f"ops.{stem}.{theirs}", shape).reshape(value.shape) + added)
    return module


_MODULATED = (ModulatedConvolution, StyledConvolution, ToRGB)
X, STYLE = _unit("ops.x", (2, 4, 6, 6)), _unit("ops.style", (2, 8))
NOISE, SKIP = _unit("ops.noise6", (2, 6, 12, 12)), _unit("ops.skip", (2, 3, 3, 3))
_RGB = {**OFFICIAL, "bias": "bias"}
_DOWN = {"weight": "1.weight", "bias": "2.bias"}
_BLOCK = {
    "conv1.weight": "conv1.0.weight", "conv1.bias": "conv1.1.bias", "conv2.weight": "conv2.1.weight",
    "conv2.bias": "conv2.2.bias", "skip.weight": "skip.1.weight",
}  # fmt: skip
RECORDED = {
    "x": lambda: X,
    "style": lambda: STYLE,
    "blur_pad22": lambda: Blur((2, 2))(X),
    "blur_pad11": lambda: Blur((1, 1))(X),
    "blur_up_pad11": lambda: Blur((1, 1), gain=4)(X),
    "upsample2": lambda: Blur((2, 1), up=2, gain=4)(X),
    "downsample2": lambda: Blur((1, 1), down=2)(X),
    "pixelnorm": lambda: pixel_norm(STYLE),
    "modconv3": lambda: _filled(ModulatedConvolution(4, 6, dim=8), "modconv3", {})(X, STYLE),
    "modconv3_up": lambda: _filled(ModulatedConvolution(4, 6, dim=8, resampling="up"), "modconv3_up", {})(X, STYLE),
    "modconv3_down": lambda: _filled(
        ModulatedConvolution(4, 6, dim=8, resampling="down"), "modconv3_down", {}
    )(X, STYLE),
    "modconv1_nodemod": lambda: _filled(
        ModulatedConvolution(4, 3, kernel=1, dim=8, demodulated=False), "modconv1_nodemod", {}
    )(X, STYLE),
    "styledconv_up_concat": lambda: _filled(
        StyledConvolution(4, 6, dim=8, up=True, noise="concatenated"), "styledconv_up_concat", OFFICIAL
    )(X, STYLE, NOISE),
    "styledconv_up_add": lambda: _filled(
        StyledConvolution(4, 6, dim=8, up=True, noise="added"), "styledconv_up_add", OFFICIAL
    )(X, STYLE, NOISE),
    "to_rgb": lambda: _filled(ToRGB(4, dim=8), "to_rgb", _RGB)(X, STYLE, SKIP),
    "convlayer1": lambda: _filled(
        EqualisedConvolution(4, 6, kernel=1), "convlayer1", {"weight": "0.weight", "bias": "1.bias"}
    )(X),
    "convlayer3_down": lambda: _filled(EqualisedConvolution(4, 6, down=True), "convlayer3_down", _DOWN)(X),
    "convlayer1_down_noact_nobias": lambda: _filled(
        EqualisedConvolution(4, 6, kernel=1, down=True, biased=False, activated=False), "convlayer1_down", _DOWN
    )(X),
    "resblock": lambda: _filled(DownBlock(4, 6), "resblock", _BLOCK)(X),
    "equal_linear_lrmul001_act": lambda: _filled(
        EqualisedLinear(8, 5, rate=0.01, activated=True), "equal_linear", {}
    )(STYLE),
    "equal_linear_plain": lambda: _filled(EqualisedLinear(8, 5), "equal_linear_plain", {})(STYLE),
}  # fmt: skip
