"""Small models of the codebook families, and their tensors under the names that the official code gives them.

The names are stated here by walking the modules, independently of `codeprior.weights.layouts`, so that both must agree.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from codeprior.codebooks import Codebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.fusion import FidelityTaps, TextureBranch
from codeprior.layers import AttentionBlock, ResidualBlock
from codeprior.predictors import CodePredictor, LinearPredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.recipes.codeformer.model import CodeFormer
from codeprior.recipes.restoreformer.model import RestoreFormer
from codeprior.recipes.vqfr.model import VQFRv1, VQFRv2
from tests.parity import names

DIM, CODES, STRIDE = 32, 48, 4
# 32 groups are no choice in official checkpoints, so no channel count is below 32
SIZES = {"channels": 32, "multipliers": (1, 1, 2), "blocks": 2, "attention": (-1,)}
BARE = {"code_convolution": False}
FLAT = {"activated": False, **BARE}


def codeformer(seed: int = 0, *, task: Any = "restoration") -> CodeFormer:
    """Gives a CodeFormer for 16 pixels, with taps at two strides."""
    torch.manual_seed(seed)
    decoder = VQGANDecoder(DIM, **SIZES, **FLAT)
    predictor = CodePredictor(DIM, CODES, grid=(4, 4), width=32, layers=2, hidden=64, any_grid=True)
    taps = FidelityTaps([2, 1], [32, 32], [32, 32], groups=32, kind="transform")
    model = CodeFormer(
        CodePrior(Codebook(CODES, DIM), decoder), VQGANEncoder(DIM, **SIZES, **FLAT), predictor, taps, task=task
    )
    return _drawn(model)


def restoreformer(seed: int = 0, *, plus: bool = False, size: int = 512) -> RestoreFormer:
    """Gives a RestoreFormer, or a RestoreFormer++."""
    torch.manual_seed(seed)
    attention = (-1, -2) if plus else (-1,)
    heads = 4 if plus else 8
    decoder = VQGANDecoder(DIM, **(SIZES | {"blocks": 3, "attention": attention}), heads=heads, guided=True)
    return _drawn(RestoreFormer(VQGANEncoder(DIM, **SIZES, heads=heads), Codebook(CODES, DIM), decoder, size=size))


def dictionary(seed: int = 0) -> VQGAN:
    """Gives the auto-encoder of a RestoreFormer."""
    torch.manual_seed(seed)
    decoder = VQGANDecoder(DIM, **(SIZES | {"blocks": 3}), heads=8)
    return _drawn(VQGAN(VQGANEncoder(DIM, **SIZES, heads=8), Codebook(CODES, DIM), decoder))


def vqfr1(seed: int = 0, *, size: int = 512) -> VQFRv1:
    """Gives a VQFR of the first version."""
    torch.manual_seed(seed)
    sizes = SIZES | {"attention": (), "bilinear": True, "middle": False}
    encoder = VQGANEncoder(DIM, **sizes, latent_channels=64)
    decoder = VQGANDecoder(DIM, **(sizes | {"blocks": 3}), widening=False)
    branch = TextureBranch([32, 32, 64], condition_channels=8, bilinear=True)
    return _drawn(VQFRv1(encoder, Codebook(CODES, DIM), decoder, branch, size=size))


def vqfr2(seed: int = 0, *, predicted: bool = True, size: int = 512) -> VQFRv2:
    """Gives a VQFR of the second version."""
    torch.manual_seed(seed)
    prior = CodePrior(Codebook(CODES, DIM), VQGANDecoder(DIM, **SIZES, **BARE))
    predictor = LinearPredictor(DIM, CODES, normalised=True) if predicted else None
    branch = TextureBranch([32, 32, 64], condition_channels=8)
    return _drawn(VQFRv2(prior, VQGANEncoder(DIM, **SIZES, **BARE), branch, predictor, size=size))


def official(model: nn.Module) -> dict[str, Tensor]:
    """Gives a model's tensors under the official names."""
    pairs = dict(_names(model))
    state = model.state_dict()
    renamed = {theirs: state[mine].clone() for mine, theirs in pairs.items()}
    assert len(renamed) == len(state) and set(pairs) == set(state)
    if isinstance(model, (RestoreFormer, VQGAN)):
        # the official code builds a second normalisation into every attention
        renamed |= {
            key.replace(".norm1.", ".norm2."): value for key, value in renamed.items() if _unguided(key, renamed)
        }
    return renamed


def _unguided(key: str, state: dict[str, Tensor]) -> bool:
    return "attn" in key and ".norm1." in key and key.replace(".norm1.", ".norm2.") not in state


def _drawn(model: nn.Module) -> Any:
    """Moves every tensor off its start, so that none is zero or alike."""
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(0.05 * torch.randn_like(value))
    return model.eval()


def _names(model: nn.Module) -> Iterator[tuple[str, str]]:
    if isinstance(model, CodeFormer):
        yield from _codeformer(model)
    elif isinstance(model, (RestoreFormer, VQGAN)):
        parts = {"encoder": "encoder", "quant": "quant_conv", "table": "quantize", "decoder": "decoder"}
        yield from names.vqgan_names(model, **parts, post="post_quant_conv").items()
    elif isinstance(model, VQFRv1):
        yield from _vqfr1(model)
    elif isinstance(model, VQFRv2):
        yield from _vqfr2(model)


def _codeformer(model: CodeFormer) -> Iterator[tuple[str, str]]:
    yield "prior.codebook.weight", "quantize.embedding.weight"
    encoder, decoder = model.encoder, model.prior.decoder
    levels = [step for level in range(len(encoder.levels)) for step in _steps(encoder.levels, level)]
    yield from _listed(model, "encoder", ["conv_in", *levels, *_middle(), "norm_out", "conv_out"], "encoder.blocks")
    levels = []
    for level in reversed(range(len(decoder.levels))):
        levels += [*_steps(decoder.levels, level), *([f"levels.{level}.resample"] if level else [])]
    steps = ["conv_in", *_middle(), *levels, "norm_out", "conv_out"]
    yield from _listed(model, "prior.decoder", steps, "generator.blocks")
    predictor = {"position": "position_emb", "embed": "feat_emb", "norm_out": "idx_pred_layer.0"}
    yield from _renamed(model, "predictor", predictor | {"to_logits": "idx_pred_layer.1"})
    layer = {
        "query_key_value.weight": "self_attn.in_proj_weight", "query_key_value.bias": "self_attn.in_proj_bias",
        "project": "self_attn.out_proj", "expand": "linear1", "contract": "linear2", "norm1": "norm1", "norm2": "norm2",
    }  # fmt: skip
    for number in range(len(model.predictor.layers)):
        moved = {mine: f"ft_layers.{number}.{theirs}" for mine, theirs in layer.items()}
        yield from _renamed(model, f"predictor.layers.{number}", moved)
    for number, stride in enumerate(model.taps.strides):
        where = f"fuse_convs_dict.{model.size // stride}"
        same = {part: f"{where}.encode_enc.{part}" for part in ("norm1", "conv1", "norm2", "conv2")}
        yield from _renamed(model, f"taps.modulations.{number}.join", same | {"skip": f"{where}.encode_enc.conv_out"})
        both = {part: f"{where}.{part}" for part in ("scale", "shift")}
        yield from _renamed(model, f"taps.modulations.{number}", both)


def _vqfr1(model: VQFRv1) -> Iterator[tuple[str, str]]:
    yield "codebook.weight", "quantizer.quantize_dict.Level_4.embedding.weight"
    around = {
        "encoder.conv_in": "encoder.conv_in", "encoder.norm_out": "encoder.enc_convout_dict.Level_4.0",
        "encoder.conv_out": "encoder.enc_convout_dict.Level_4.2",
        "encoder.to_code": "quantizer.quantize_dict.Level_4.quant_conv",
        "decoder.from_code": "quantizer.quantize_dict.Level_4.post_quant_conv",
        "decoder.norm_out": "decoder.conv_out.0",
        "decoder.conv_out": "decoder.conv_out.2", "branch.look": "inpfeat_extraction.conv",
        "norm_out.0": "main_decoder.conv_out_1.0", "conv_out": "main_decoder.conv_out.0",
    }  # fmt: skip
    for index, stride in enumerate((1, 2, 4)):
        for block in range(2):
            around[f"encoder.levels.{index}.steps.{block}"] = f"encoder.encoder_dict.Level_{stride}.{block}"
        for block in range(3):
            around[f"decoder.levels.{index}.steps.{block}"] = f"decoder.decoder_dict.Level_{stride}.{block}"
        if index < 2:
            around[f"encoder.levels.{index}.steps.2"] = f"encoder.pre_downsample_dict.Level_{2 * stride}"
            around[f"decoder.levels.{index + 1}.resample"] = f"decoder.pre_upsample_dict.Level_{stride}"
    yield from _renamed(model, "", around)
    yield from _branch(model, "main_decoder", "shortcut_conv", "conv")


def _vqfr2(model: VQFRv2) -> Iterator[tuple[str, str]]:
    yield "prior.codebook.weight", "quantizer.embedding.weight"
    around = {
        "encoder.conv_in": "encoder.conv_in", "encoder.norm_out": "encoder.conv_out.0",
        "encoder.conv_out": "encoder.conv_out.2", "prior.decoder.conv_in": "decoder.conv_in",
        "prior.decoder.norm_out": "decoder.conv_out.0", "prior.decoder.conv_out": "decoder.conv_out.2",
        "branch.look": "inpfeat_extraction", "predictor.norm": "feat2index.0", "predictor.to_logits": "feat2index.1",
    }  # fmt: skip
    yield from _renamed(model, "", around)
    for index in range(3):
        # a level of the encoder begins with the halving that ends ours before it
        steps = [*([f"levels.{index - 1}.steps.2"] if index else []), *_blocks(model.encoder.levels, index)]
        yield from _listed(model, "encoder", steps, f"encoder.blocks.{index}", shortcut="residual_func")
        steps = [*([f"levels.{index + 1}.resample"] if index < 2 else []), *_blocks(model.prior.decoder.levels, index)]
        yield from _listed(model, "prior.decoder", steps, f"decoder.blocks.{2 - index}", shortcut="residual_func")
    for side, theirs in (("encoder", "encoder"), ("prior.decoder", "decoder")):
        yield from _listed(model, side, _middle(), f"{theirs}.mid_blocks")
    yield from _branch(model, "main_branch", "residual_func", "1")


def _branch(model: Any, where: str, shortcut: str, inside: str) -> Iterator[tuple[str, str]]:
    parts = {
        "shrink": "downsample", "look": "offset_conv1", "join": "offset_conv2", "warp.offsets": "dcn.conv_offset",
        "warp": "dcn",
    }  # fmt: skip
    for number, stride in enumerate(model.branch.strides):
        moved = {mine: f"{where}.align_func_dict.Level_{stride}.{theirs}" for mine, theirs in parts.items()}
        yield from _renamed(model, f"branch.warps.{number}", moved)
        if number:
            level = f"{where}.decoder_dict.Level_{stride}"
            same = {part: f"{level}.{part}" for part in ("norm1", "conv1", "norm2", "conv2")} | {
                "skip": f"{level}.{shortcut}"
            }
            yield from _renamed(model, f"branch.blocks.{number - 1}", same)
            grown = {"conv": f"{where}.pre_upsample_dict.Level_{stride}.{inside}"}
            yield from _renamed(model, f"branch.grow.{number - 1}", grown)


def _steps(levels: Any, level: int) -> list[str]:
    return [f"levels.{level}.steps.{number}" for number in range(len(levels[level].steps))]


def _blocks(levels: Any, level: int) -> list[str]:
    kinds = (ResidualBlock, AttentionBlock)
    return [
        f"levels.{level}.steps.{number}" for number, step in enumerate(levels[level].steps) if isinstance(step, kinds)
    ]


def _middle() -> list[str]:
    return [f"middle.{number}" for number in range(3)]


def _listed(
    model: nn.Module, mine: str, steps: list[str], theirs: str, *, shortcut: str = "conv_out"
) -> Iterator[tuple[str, str]]:
    """Gives the names of steps that the official code keeps in a list."""
    table = {"skip": shortcut, "query": "q", "key": "k", "value": "v", "project": "proj_out"}
    for number, step in zip(count(), steps, strict=False):
        prefix = f"{mine}.{step}."
        for name in model.state_dict():
            if name.startswith(prefix):
                head, dot, leaf = name.removeprefix(prefix).partition(".")
                yield name, f"{theirs}.{number}.{table.get(head, head)}{dot}{leaf}"


def _renamed(model: nn.Module, mine: str, parts: dict[str, str]) -> Iterator[tuple[str, str]]:
    prefix = f"{mine}." if mine else ""
    for name in model.state_dict():
        rest = name.removeprefix(prefix)
        part = next((part for part in parts if rest == part or rest.startswith(f"{part}.")), None)
        if name.startswith(prefix) and part is not None:
            yield name, parts[part] + rest.removeprefix(part)
