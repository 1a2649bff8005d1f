"""Checkpoints of CodeFormer: the restorer of each task, and the auto-encoder of its first stage.

Source: keys and containers recorded from sczhou/CodeFormer@b33cc7d, of which nothing else is used.
"""

import math
import re
from typing import NamedTuple

from torch import Tensor

from codeprior.weights.layouts.ladder import (
    State,
    account,
    predictor_name,
    read_decoder,
    read_encoder,
    read_step,
)


class CodeFormerTranslation(NamedTuple):
    """A checkpoint of CodeFormer under our names.

    Attributes:
        stage: `restorer`, or `prior` for the auto-encoder.
        tensors: By our names: `encoder.`, `prior.`, `predictor.` and `taps.`; of an auto-encoder `encoder.`,
            `codebook.` and `decoder.`.
        encoder: Keyword arguments of our encoder.
        codebook: Keyword arguments of our codebook.
        decoder: Keyword arguments of our decoder.
        predictor: Keyword arguments of our predictor; empty for an auto-encoder.
        taps: Keyword arguments of our taps; empty where there are none.
    """

    stage: str
    tensors: dict[str, Tensor]
    encoder: dict
    codebook: dict
    decoder: dict
    predictor: dict
    taps: dict


def is_codeformer(state: State) -> bool:
    """Says by the keys whether a state dict is of CodeFormer or of its auto-encoder.

    Args:
        state: Tensors by the checkpoint's keys.
    """
    return "encoder.blocks.1.norm1.weight" in state and any(key.startswith("generator.blocks.") for key in state)


def translate_codeformer(state: State) -> CodeFormerTranslation:
    """Gives a checkpoint of CodeFormer under our names.

    Args:
        state: Tensors by the checkpoint's keys.

    Raises:
        ValueError: It is no such checkpoint, only a part of one, or holds a key that the model does not have.
    """
    if not is_codeformer(state):
        raise ValueError("codeformer: expected encoder.blocks.1.norm1.weight and generator.blocks.0.weight.")
    encoder = read_encoder(state, _flat(state, "encoder.blocks"))
    decoder = read_decoder(state, _flat(state, "generator.blocks"))
    restorer = "position_emb" in state
    names = {key: f"encoder.{name}" for key, name in encoder.names.items()}
    names |= {key: f"{'prior.' * restorer}decoder.{name}" for key, name in decoder.names.items()}
    names["quantize.embedding.weight"] = f"{'prior.' * restorer}codebook.weight"
    names |= {key: name for key in state if (name := predictor_name(key))}
    strides = _strides(state, levels=len(encoder.sizes["multipliers"]))
    for number, size in enumerate(strides):
        where, mine = f"fuse_convs_dict.{size}", f"taps.modulations.{number}"
        names |= read_step(state, f"{where}.encode_enc", f"{mine}.join")
        for key in state:
            if key.startswith((f"{where}.scale.", f"{where}.shift.")):
                names[key] = mine + key.removeprefix(where)
    tensors = account(state, names, who="codeformer")
    codes, dim = _needed(state, "quantize.embedding.weight").shape
    ends = {"activated": False, "code_convolution": False}
    return CodeFormerTranslation(
        "restorer" if restorer else "prior",
        tensors,
        encoder.sizes | ends,
        {"size": codes, "dim": dim},
        decoder.sizes | ends,
        _predictor(state) if restorer else {},
        _taps(state, strides) if strides else {},
    )


def _flat(state: State, prefix: str) -> list[str]:
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    numbers = {int(match[1]) for match in map(pattern.match, state) if match}
    return [f"{prefix}.{number}" for number in range(1 + max(numbers))]


def _needed(state: State, key: str) -> Tensor:
    if key not in state:
        raise ValueError(f"the checkpoint lacks {key}, so it is a part of a model only.")
    return state[key]


def _predictor(state: State) -> dict:
    side = math.isqrt(state["position_emb"].shape[0])
    width, dim = _needed(state, "feat_emb.weight").shape
    return {
        "dim": dim, "size": _needed(state, "idx_pred_layer.1.weight").shape[0], "grid": [side, side], "width": width,
        "layers": len({key.split(".")[1] for key in state if key.startswith("ft_layers.")}),
        "hidden": _needed(state, "ft_layers.0.linear1.weight").shape[0], "any_grid": True,
    }  # fmt: skip


def _strides(state: State, *, levels: int) -> dict[str, int]:
    """Gives the stride of each fused size, in the order of the decoder; sizes are named for the published input."""
    sizes = {key.split(".")[1] for key in state if key.startswith("fuse_convs_dict.")}
    side = math.isqrt(state["position_emb"].shape[0]) * 2 ** (levels - 1) if sizes else 0
    return {size: side // int(size) for size in sorted(sizes, key=int)}


def _taps(state: State, strides: dict[str, int]) -> dict:
    widths = [_needed(state, f"fuse_convs_dict.{size}.scale.0.weight").shape[0] for size in strides]
    guides = [
        _needed(state, f"fuse_convs_dict.{size}.encode_enc.conv1.weight").shape[1] - width
        for size, width in zip(strides, widths, strict=True)
    ]
    return {
        "strides": list(strides.values()), "channels": widths, "guide_channels": guides, "groups": 32,
        "kind": "transform",
    }  # fmt: skip
