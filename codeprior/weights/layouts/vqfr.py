"""Checkpoints of VQFR: both versions of the restorer, and the auto-encoders of their first stages.

Source: keys and containers recorded from TencentARC/VQFR@239c77a, of which nothing else is used.
"""

import re
from typing import NamedTuple

from torch import Tensor

from codeprior.weights.layouts.ladder import State, account, read_decoder, read_encoder, read_step

_WARP = {
    "downsample": "shrink", "offset_conv1": "look", "offset_conv2": "join", "dcn.conv_offset": "warp.offsets",
    "dcn": "warp",
}  # fmt: skip


class VQFRTranslation(NamedTuple):
    """A checkpoint of VQFR under our names.

    Attributes:
        version: 1 or 2.
        stage: `restorer`, or `prior` for an auto-encoder.
        tensors: By our names.
        encoder: Keyword arguments of our encoder.
        codebook: Keyword arguments of our codebook.
        decoder: Keyword arguments of our decoder.
        branch: Keyword arguments of our texture branch; empty for an auto-encoder.
        predictor: Keyword arguments of our predictor; empty where the nearest codes are taken.
    """

    version: int
    stage: str
    tensors: dict[str, Tensor]
    encoder: dict
    codebook: dict
    decoder: dict
    branch: dict
    predictor: dict


def is_vqfr(state: State) -> bool:
    """Says by the keys whether a state dict is of VQFR, of either version and stage.

    Args:
        state: Tensors by the checkpoint's keys.
    """
    first = "encoder.encoder_dict.Level_1.0.norm1.weight" in state
    return (first or "encoder.blocks.0.0.norm1.weight" in state) and any(k.startswith("quantizer.") for k in state)


def translate_vqfr(state: State) -> VQFRTranslation:
    """Gives a checkpoint of VQFR under our names.

    Args:
        state: Tensors by the checkpoint's keys.

    Raises:
        ValueError: It is no such checkpoint, only a part of one, or holds a key that the model does not have.
    """
    if not is_vqfr(state):
        raise ValueError("vqfr: expected a quantizer, and encoder.encoder_dict or encoder.blocks of level 0.")
    return _first(state) if "encoder.encoder_dict.Level_1.0.norm1.weight" in state else _second(state)


def _first(state: State) -> VQFRTranslation:
    levels = _levels(state, "encoder.encoder_dict")
    encoder_steps, decoder_steps = ["encoder.conv_in"], []
    for level in levels:
        encoder_steps += [f"encoder.pre_downsample_dict.Level_{level}"] * (level > 1)
        encoder_steps += _numbered(state, f"encoder.encoder_dict.Level_{level}")
    encoder_steps += _head(state, f"encoder.enc_convout_dict.Level_{levels[-1]}")
    for level in reversed(levels):
        decoder_steps += [f"decoder.pre_upsample_dict.Level_{level}"] * (level < levels[-1])
        decoder_steps += _numbered(state, f"decoder.decoder_dict.Level_{level}")
    encoder = read_encoder(state, encoder_steps, bilinear=True)
    decoder = read_decoder(state, [*decoder_steps, *_head(state, "decoder.conv_out")], bilinear=True)
    names = {key: f"encoder.{name}" for key, name in encoder.names.items()}
    names |= {key: f"decoder.{name}" for key, name in decoder.names.items()}
    table = f"quantizer.quantize_dict.Level_{levels[-1]}"
    for leaf in ("weight", "bias"):
        names[f"{table}.quant_conv.{leaf}"] = f"encoder.to_code.{leaf}"
        names[f"{table}.post_quant_conv.{leaf}"] = f"decoder.from_code.{leaf}"
        names[f"main_decoder.conv_out_1.0.{leaf}"] = f"norm_out.0.{leaf}"
        names[f"main_decoder.conv_out.0.{leaf}"] = f"conv_out.{leaf}"
        names[f"inpfeat_extraction.conv.{leaf}"] = f"branch.look.{leaf}"
    names[f"{table}.embedding.weight"] = "codebook.weight"
    names |= _branch_names(state, "main_decoder", levels)
    codes, dim = _needed(state, f"{table}.embedding.weight").shape
    restorer = any(key.startswith("main_decoder.") for key in state)
    return VQFRTranslation(
        1,
        "restorer" if restorer else "prior",
        account(state, names, who="vqfr"),
        encoder.sizes | {"dim": dim, "latent_channels": encoder.sizes["dim"]},
        {"size": codes, "dim": dim},
        decoder.sizes | {"dim": dim},
        _branch(state, "main_decoder", "inpfeat_extraction.conv", levels) | {"bilinear": True} if restorer else {},
        {},
    )


def _second(state: State) -> VQFRTranslation:
    count = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("encoder.blocks."))
    levels = [2**index for index in range(count)]
    encoder_steps, decoder_steps = ["encoder.conv_in"], ["decoder.conv_in", *_numbered(state, "decoder.mid_blocks")]
    for index in range(count):
        encoder_steps += _numbered(state, f"encoder.blocks.{index}")
        decoder_steps += _numbered(state, f"decoder.blocks.{index}")
    encoder_steps += [*_numbered(state, "encoder.mid_blocks"), *_head(state, "encoder.conv_out")]
    encoder = read_encoder(state, encoder_steps)
    decoder = read_decoder(state, [*decoder_steps, *_head(state, "decoder.conv_out")])
    restorer = any(key.startswith("main_branch.") for key in state)
    inside = "prior." * restorer
    names = {key: f"encoder.{name}" for key, name in encoder.names.items()}
    names |= {key: f"{inside}decoder.{name}" for key, name in decoder.names.items()}
    names["quantizer.embedding.weight"] = f"{inside}codebook.weight"
    for leaf in ("weight", "bias"):
        names[f"feat2index.0.{leaf}"] = f"predictor.norm.{leaf}"
        names[f"feat2index.1.{leaf}"] = f"predictor.to_logits.{leaf}"
        names[f"inpfeat_extraction.{leaf}"] = f"branch.look.{leaf}"
    names |= _branch_names(state, "main_branch", levels)
    codes, dim = _needed(state, "quantizer.embedding.weight").shape
    known = {"dim": dim, "size": codes, "normalised": True}
    return VQFRTranslation(
        2,
        "restorer" if restorer else "prior",
        account(state, names, who="vqfr"),
        encoder.sizes | {"code_convolution": False},
        {"size": codes, "dim": dim},
        decoder.sizes | {"code_convolution": False},
        _branch(state, "main_branch", "inpfeat_extraction", levels) if restorer else {},
        known if "feat2index.1.weight" in state else {},
    )


def _branch_names(state: State, prefix: str, levels: list[int]) -> dict[str, str]:
    names = {}
    for number, level in enumerate(reversed(levels)):
        where = f"{prefix}.align_func_dict.Level_{level}"
        for key in state:
            rest = key.removeprefix(f"{where}.")
            theirs = next((part for part in _WARP if rest != key and rest.startswith(f"{part}.")), None)
            if theirs:
                names[key] = f"branch.warps.{number}.{_WARP[theirs]}{rest.removeprefix(theirs)}"
        if number and any(key.startswith(f"{prefix}.decoder_dict.Level_{level}.") for key in state):
            names |= read_step(state, f"{prefix}.decoder_dict.Level_{level}", f"branch.blocks.{number - 1}")
            for leaf in ("weight", "bias"):
                for inside in ("conv", "1"):
                    key = f"{prefix}.pre_upsample_dict.Level_{level}.{inside}.{leaf}"
                    names[key] = f"branch.grow.{number - 1}.conv.{leaf}"
    return names


def _branch(state: State, prefix: str, look: str, levels: list[int]) -> dict:
    widths = [_needed(state, f"{prefix}.align_func_dict.Level_{level}.dcn.weight").shape[0] for level in levels]
    offsets = _needed(state, f"{prefix}.align_func_dict.Level_1.dcn.conv_offset.weight").shape[0]
    return {
        "channels": widths, "condition_channels": _needed(state, f"{look}.weight").shape[0],
        "deformable_groups": offsets // 27,
    }  # fmt: skip


def _levels(state: State, prefix: str) -> list[int]:
    pattern = re.compile(re.escape(prefix) + r"\.Level_(\d+)\.")
    return sorted({int(match[1]) for match in map(pattern.match, state) if match})


def _numbered(state: State, prefix: str) -> list[str]:
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return [f"{prefix}.{n}" for n in sorted({int(match[1]) for match in map(pattern.match, state) if match})]


def _head(state: State, prefix: str) -> list[str]:
    """Gives the normalisation and the convolution of a head; what stands between them has no tensors."""
    found = _numbered(state, prefix)
    if len(found) != 2:
        raise ValueError(f"the checkpoint holds {len(found)} steps under {prefix}, where two are expected.")
    return found


def _needed(state: State, key: str) -> Tensor:
    if key not in state:
        raise ValueError(f"the checkpoint lacks {key}, so it is a part of a model only.")
    return state[key]
