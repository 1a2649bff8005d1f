"""Checkpoints of GPEN: the restorer at any size, and the discriminator of its training.

A file does not say what it was trained for (restoration, colourisation, inpainting, or faces from segmentations); the
caller does. Source: keys and containers recorded from yangxy/GPEN@2c73670, of which nothing else is used.
"""

import re
from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from codeprior.weights.layouts.ladder import State, account

_FIR = "a constant of the FIR filter, which ours computes"


class GPENTranslation(NamedTuple):
    """A checkpoint of GPEN under our names.

    Attributes:
        network: `restorer` or `discriminator`.
        sizes: Keyword arguments of our class.
        tensors: By our names.
        dropped: Keys that are not kept, each with the reason.
    """

    network: str
    sizes: dict
    tensors: dict[str, Tensor]
    dropped: dict[str, str]


def is_gpen(state: State) -> bool:
    """Says by the keys whether a state dict is of GPEN.

    Args:
        state: Tensors by the checkpoint's keys.
    """
    return {"generator.input.input", "ecd0.0.0.weight"} <= state.keys() or _is_discriminator(state)


def translate_gpen(state: State) -> GPENTranslation:
    """Gives a checkpoint of GPEN under our names.

    Args:
        state: Tensors by the checkpoint's keys.

    Raises:
        ValueError: It is no such checkpoint, or holds a key that the model does not have.
        KeyError: It is only a part of one.
    """
    if not is_gpen(state):
        raise ValueError("gpen: expected generator.input.input and ecd0.0.0.weight, or a discriminator's final_conv.")
    dropped = {key: _FIR for key in state if key.endswith(".kernel")}
    kept = {key: value for key, value in state.items() if key not in dropped}
    rules, sizes = (_JUDGE, _judge_sizes) if _is_discriminator(kept) else (_RESTORER, _restorer_sizes)
    found = sizes(kept)
    tensors = account(kept, {key: name for key in kept if (name := _renamed(key, rules))}, who="gpen")
    # a modulated weight has a leading one, and the bias of a picture is kept as an image
    flat = {name: value[0] if value.ndim == 5 else value for name, value in tensors.items()}
    flat = {name: rearrange(v, "1 c 1 1 -> c") if _RGB_BIAS.fullmatch(name) else v for name, v in flat.items()}
    return GPENTranslation("discriminator" if rules is _JUDGE else "restorer", found, flat, dropped)


_RGB_BIAS = re.compile(r"generator\.synthesis\.pictures\.\d+\.bias")
_INSIDE = r"(conv\.weight|conv\.modulation\.(?:weight|bias))"
_RESTORER = (
    (r"generator\.style\.(\d+)\.(weight|bias)", "generator.mapping.layers.{0-}.{1}"),
    (r"generator\.input\.input", "generator.synthesis.constant"),
    (rf"generator\.conv1\.{_INSIDE}", "generator.synthesis.convs.0.{0}"),
    (r"generator\.conv1\.noise\.weight", "generator.synthesis.convs.0.noise_weight"),
    (r"generator\.conv1\.activate\.bias", "generator.synthesis.convs.0.bias"),
    (rf"generator\.convs\.(\d+)\.{_INSIDE}", "generator.synthesis.convs.{0+}.{1}"),
    (r"generator\.convs\.(\d+)\.noise\.weight", "generator.synthesis.convs.{0+}.noise_weight"),
    (r"generator\.convs\.(\d+)\.activate\.bias", "generator.synthesis.convs.{0+}.bias"),
    (rf"generator\.to_rgb1\.(bias|{_INSIDE})", "generator.synthesis.pictures.0.{0}"),
    (rf"generator\.to_rgbs\.(\d+)\.(bias|{_INSIDE})", "generator.synthesis.pictures.{0+}.{1}"),
    (r"ecd0\.0\.0\.weight", "encoder.start.weight"),
    (r"ecd0\.0\.1\.bias", "encoder.start.bias"),
    (r"ecd(\d+)\.0\.1\.weight", "encoder.down.{0-}.weight"),
    (r"ecd(\d+)\.0\.2\.bias", "encoder.down.{0-}.bias"),
    (r"final_linear\.0\.(weight|bias)", "encoder.to_latent.{0}"),
)
_JUDGE = (
    (r"convs\.0\.0\.weight", "start.weight"),
    (r"convs\.0\.1\.bias", "start.bias"),
    (r"convs\.(\d+)\.conv1\.0\.weight", "blocks.{0-}.conv1.weight"),
    (r"convs\.(\d+)\.conv1\.1\.bias", "blocks.{0-}.conv1.bias"),
    (r"convs\.(\d+)\.conv2\.1\.weight", "blocks.{0-}.conv2.weight"),
    (r"convs\.(\d+)\.conv2\.2\.bias", "blocks.{0-}.conv2.bias"),
    (r"convs\.(\d+)\.skip\.1\.weight", "blocks.{0-}.skip.weight"),
    (r"final_conv\.0\.weight", "last.weight"),
    (r"final_conv\.1\.bias", "last.bias"),
    (r"final_linear\.0\.(weight|bias)", "gather.{0}"),
    (r"final_linear\.1\.(weight|bias)", "score.{0}"),
)
"""Official names and ours; the first group's number is one more (+) or one less (-) with us."""


def _renamed(key: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    for theirs, mine in rules:
        found = re.fullmatch(theirs, key)
        if found is None:
            continue
        groups = [group or "" for group in found.groups()]
        for sign, moved in (("+", 1), ("-", -1)):
            if f"{{0{sign}}}" in mine:
                mine = mine.replace(f"{{0{sign}}}", str(int(groups[0]) + moved))
        return mine.format(*groups)
    return None


def _is_discriminator(state: State) -> bool:
    return {
        "convs.0.0.weight",
        "convs.1.conv1.0.weight",
        "final_conv.0.weight",
        "final_linear.1.weight",
    } <= state.keys()


def _restorer_sizes(state: State) -> dict:
    steps = _count(state, r"ecd(\d+)\.")
    levels = _count(state, r"generator\.to_rgbs\.(\d+)\.")
    weight, bias = state["generator.conv1.conv.weight"], state["generator.conv1.activate.bias"]
    noisy = "generator.conv1.noise.weight" in state
    widths = {4: weight.shape[1]} | {
        8 * 2**level: state[f"generator.convs.{2 * level + 1}.conv.weight"].shape[1] for level in range(levels)
    }
    concatenated = len(bias) == 2 * weight.shape[1]
    return _pyramid(widths) | {
        "size": 2 ** (steps + 1),
        "scale": 2 ** (levels + 2) // 2 ** (steps + 1),
        "dim": state["generator.style.1.weight"].shape[0],
        "layers": _count(state, r"generator\.style\.(\d+)\."),
        "noise": "concatenated" if concatenated else "added" if noisy else "none",
    }


def _judge_sizes(state: State) -> dict:
    blocks = _count(state, r"convs\.(\d+)\.") - 1
    size = 2 ** (blocks + 2)
    widths = {size: state["convs.0.0.weight"].shape[0]} | {
        size // 2**block: state[f"convs.{block}.conv2.1.weight"].shape[0] for block in range(1, blocks + 1)
    }
    return {"size": size} | _pyramid(widths)


def _pyramid(widths: dict[int, int]) -> dict:
    """Gives the two numbers that make these channels."""
    narrow = widths[4] / 512
    multiplier = round(widths[64] / (256 * narrow)) if 64 in widths else 2
    return {"multiplier": multiplier, "narrow": narrow}


def _count(state: State, pattern: str) -> int:
    return len({found[1] for key in state if (found := re.match(pattern, key))})
