"""Checkpoints of GFP-GAN's clean version: versions 1.2, 1.3 and 1.4 of the published restorer.

Its decoder keeps convolutions as they are used; ours keeps them as unit normals that are divided by the root of their
fan-in (`codeprior.layers.stylegan`), and multiplies by √2 after the activation instead of before it. Values are brought
from one to the other here. Source: keys of TencentARC/GFPGAN as spandrel 0.4 loads them; the layers by the
specification, compared with spandrel's outputs.
"""

import math
import re
from typing import Any, NamedTuple

from torch import Tensor

from codeprior.weights.layouts.ladder import State, account

_DECODER = "stylegan_decoder."
_LEAVES = ("weight", "bias")


class GFPGANTranslation(NamedTuple):
    """A checkpoint of GFP-GAN under our names.

    Attributes:
        tensors: By our names, values brought to our layers.
        decoder: Keyword arguments of our synthesis network.
        channels: Of the U-Net, from the whole side down to 4.
        dropped: Keys that are not kept, each with the reason.
    """

    tensors: dict[str, Tensor]
    decoder: dict[str, Any]
    channels: tuple[int, ...]
    dropped: dict[str, str]


def is_gfpgan(state: State) -> bool:
    """Says by the keys whether a state dict is of GFP-GAN's clean version.

    Args:
        state: Tensors by the checkpoint's keys.
    """
    return "conv_body_first.weight" in state and f"{_DECODER}style_conv1.modulated_conv.weight" in state


def translate_gfpgan(state: State) -> GFPGANTranslation:
    """Gives a checkpoint of GFP-GAN under our names.

    Args:
        state: Tensors by the checkpoint's keys.

    Raises:
        ValueError: It is no such checkpoint, has widths that no table of StyleGAN2 has, or a key that the model does
            not have.
    """
    if not is_gfpgan(state):
        raise ValueError(
            "gfpgan: expected conv_body_first.weight and stylegan_decoder.style_conv1.modulated_conv.weight; version 1 "
            "with compiled operations has other names, and is not read."
        )
    dropped = {
        key: "of the mapping network: the U-Net gives styles, so nothing calls it"
        for key in state
        if key.startswith(f"{_DECODER}style_mlp.")
    }
    kept = {key: value for key, value in state.items() if key not in dropped}
    levels = len({key.split(".")[1] for key in kept if key.startswith("conv_body_down.")})
    names = _names(levels)
    found = account(kept, names, who="gfpgan")
    tensors = {name: _valued(name, value) for name, value in found.items()}
    channels = (
        kept["conv_body_first.weight"].shape[0],
        *(kept[f"conv_body_down.{level}.conv2.weight"].shape[0] for level in range(levels)),
    )
    return GFPGANTranslation(tensors, _decoder(kept, levels), channels, dropped)


def _decoder(state: State, levels: int) -> dict[str, Any]:
    size, narrow = 4 * 2**levels, state[f"{_DECODER}constant_input.weight"].shape[1] / 512
    last = state[f"{_DECODER}style_convs.{2 * levels - 1}.modulated_conv.weight"].shape[1]
    # below 64 px nothing shows the multiplier, and nothing depends on it
    multiplier = round(last / narrow * (size // 64) / 256) if size >= 64 else 2
    dim = state[f"{_DECODER}to_rgb1.modulated_conv.modulation.weight"].shape[1]
    return {"size": size, "dim": dim, "multiplier": multiplier, "narrow": narrow, "noise": "added", "bilinear": True}


def _names(levels: int) -> dict[str, str]:
    pairs = {"conv_body_first": "look", "final_conv": "deepest", "final_linear": "to_styles"}
    for level in range(levels):
        for theirs, mine in (("conv_body_down", "down"), ("conv_body_up", "up")):
            pairs |= {f"{theirs}.{level}.{part}": f"{mine}.{level}.{part}" for part in ("conv1", "conv2")}
        pairs[f"toRGB.{level}"] = f"pictures.{level}"
        for kind in ("scale", "shift"):
            pairs |= {f"condition_{kind}.{level}.{part}": f"modulations.{level}.{kind}.{part}" for part in (0, 2)}
    names = {f"{theirs}.{leaf}": f"{mine}.{leaf}" for theirs, mine in pairs.items() for leaf in _LEAVES}
    for level in range(levels):
        for theirs, mine in (("conv_body_down", "down"), ("conv_body_up", "up")):
            names[f"{theirs}.{level}.skip.weight"] = f"{mine}.{level}.skip.weight"
    names[f"{_DECODER}constant_input.weight"] = "decoder.constant"
    convs = ["style_conv1", *(f"style_convs.{number}" for number in range(2 * levels))]
    pictures = ["to_rgb1", *(f"to_rgbs.{number}" for number in range(levels))]
    for kind, parts in (("convs", convs), ("pictures", pictures)):
        for number, part in enumerate(parts):
            theirs, mine = f"{_DECODER}{part}", f"decoder.{kind}.{number}"
            names[f"{theirs}.modulated_conv.weight"] = f"{mine}.conv.weight"
            for leaf in _LEAVES:
                names[f"{theirs}.modulated_conv.modulation.{leaf}"] = f"{mine}.conv.modulation.{leaf}"
            names[f"{theirs}.bias"] = f"{mine}.bias"
            if kind == "convs":
                names[f"{theirs}.weight"] = f"{mine}.noise_weight"
                names[f"{_DECODER}noises.noise{number}"] = f"noise{number}"
    return names


def _valued(name: str, value: Tensor) -> Tensor:
    """Brings a tensor of the decoder from their layers to ours."""
    if re.fullmatch(r"decoder\.(convs|pictures)\.\d+\.conv\.weight", name):
        weight = value.squeeze(0)
        return weight * math.sqrt(weight[0].numel())
    if name.startswith("decoder.") and name.endswith("modulation.weight"):
        return value * math.sqrt(value.shape[1])
    if re.fullmatch(r"decoder\.convs\.\d+\.(bias|noise_weight)", name):
        return value.flatten() / math.sqrt(2)
    if re.fullmatch(r"decoder\.pictures\.\d+\.bias", name):
        return value.flatten()
    return value
