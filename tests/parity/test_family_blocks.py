"""Every shared block agrees with the official block of CodeFormer, VQFR or RestoreFormer that was recorded for it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from codeprior.codebooks import Codebook, perplexity, usage
from codeprior.fusion import ControllableTransform, TextureWarp, adain, doubled_trace
from codeprior.layers import (
    AttentionBlock,
    BilinearDownsample,
    BilinearUpsample,
    DeformableConvolution,
    Downsample,
    ResidualBlock,
    SelfAttentionLayer,
    Upsample,
)
from codeprior.losses import codebook_loss
from tests.parity import fill

_FIXTURES = Path(__file__).parent / "fixtures" / "codebook_family"
_BLOCKS = json.loads((_FIXTURES / "blocks.json").read_text())
# two orders of summation in float32, at values of up to about 10
CLOSE = {"rtol": 1e-5, "atol": 1e-5}

_RESIDUAL = {"skip": "conv_out"}
_ATTENTION = {"query": "q", "key": "k", "value": "v", "project": "proj_out"}
_MANY = _ATTENTION | {"norm": "norm1", "norm_guide": "norm2"}
_LAYER = {
    "query_key_value.weight": "self_attn.in_proj_weight", "query_key_value.bias": "self_attn.in_proj_bias",
    "project": "self_attn.out_proj", "expand": "linear1", "contract": "linear2",
}  # fmt: skip
_WARP = {
    "look": "offset_conv1", "join": "offset_conv2", "warp.offsets": "dcn.conv_offset", "warp": "dcn",
    "shrink": "downsample",
}  # fmt: skip


def _official(name: str, renamed: dict[str, str]) -> str:
    for mine, theirs in renamed.items():
        if name == mine or name.startswith(f"{mine}."):
            return theirs + name.removeprefix(mine)
    return name


def _filled(block: str, module: nn.Module, renamed: dict[str, str], unused: tuple[str, ...] = ()) -> nn.Module:
    """Fills a module by the official names; every official parameter must have its place, except the unused."""
    shapes = {name: tuple(shape) for name, shape in _BLOCKS[block]["params"] if not name.startswith(unused or ("-",))}
    own = {name: (_official(name, renamed), tuple(value.shape)) for name, value in module.state_dict().items()}
    assert dict(own.values()) == shapes
    state = {name: fill.tensor_for(f"blocks.{block}.{theirs}", shape) for name, (theirs, shape) in own.items()}
    module.load_state_dict(state)
    return module.eval()


def _given(block: str) -> dict[str, Tensor]:
    inputs = _BLOCKS[block]["inputs"]
    return {name: fill.tensor_for(f"input.embedding.{block}.{name}", tuple(shape)) for name, shape in inputs.items()}


def _stored(block: str) -> dict[str, Tensor]:
    with np.load(_FIXTURES / "blocks.npz") as arrays:
        return {name: torch.as_tensor(arrays[f"{block}__{name}"]) for name in _BLOCKS[block]["outputs"]}


_PLAIN = {
    "resblock": (ResidualBlock(32, 64), _RESIDUAL, ()),
    "attn_single_head": (AttentionBlock(64), _ATTENTION, ()),
    "attn_multi_head_self": (AttentionBlock(64, heads=8), _MANY, ("norm2",)),
    "attn_multi_head_cross": (AttentionBlock(64, heads=8, guided=True), _MANY, ()),
    "downsample_pad_right_bottom": (Downsample(16), {}, ()),
    "upsample_nearest_then_conv": (Upsample(16), {}, ()),
    "bilinear_down4_then_conv": (BilinearDownsample(8, 16, rate=4), {}, ()),
    "conv_then_bilinear_up2": (BilinearUpsample(16, 8), {}, ()),
}


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("block", list(_PLAIN))
def test_a_block_gives_what_the_official_one_gave(block: str, gradients: bool):
    module, renamed, unused = _PLAIN[block]
    given = _given(block)
    # with and without gradients the layers choose other arithmetic
    with torch.set_grad_enabled(gradients):
        answer = _filled(block, module, renamed, unused)(*given.values())
    torch.testing.assert_close(answer.detach(), _stored(block)["out"], **CLOSE)


def test_the_transformer_layer_agrees():
    given, stored = _given("transformer_layer"), _stored("transformer_layer")
    layer = _filled("transformer_layer", SelfAttentionLayer(64, heads=8, hidden=128), _LAYER)
    with torch.no_grad():
        answer = layer(rearrange(given["x"], "n b c -> b n c"), given["pos"][:, 0])
    torch.testing.assert_close(rearrange(answer, "b n c -> n b c"), stored["out"], **CLOSE)


def test_the_nearest_code_agrees():
    given, stored = _given("nearest_code"), _stored("nearest_code")
    codebook = _filled("nearest_code", Codebook(64, 16), {"weight": "embedding.weight"})
    with torch.no_grad():
        found = codebook(given["x"])
    assert torch.equal(found.indices.flatten(), stored["indices"])
    torch.testing.assert_close(found.values, stored["quantised"], **CLOSE)
    torch.testing.assert_close(codebook_loss(given["x"], found.codes), stored["loss"], **CLOSE)
    torch.testing.assert_close(perplexity(usage(found.indices, 64)).float(), stored["perplexity"].float(), **CLOSE)


def test_adain_agrees():
    given = _given("adain")
    answer = adain(given["content"], 1.7 * given["style"] + 0.3)
    torch.testing.assert_close(answer, _stored("adain")["out"], **CLOSE)


@pytest.mark.parametrize(("output", "weight"), [("w000", 0.0), ("w050", 0.5), ("w100", 1.0)])
def test_the_controllable_transform_agrees(output: str, weight: float):
    given = _given("sft_fuse")
    names = {"join.skip": "encode_enc.conv_out", "join": "encode_enc"}
    module = _filled("sft_fuse", ControllableTransform(32, 32), names)
    stored = _stored("sft_fuse")[output]
    with torch.no_grad():
        torch.testing.assert_close(module(given["dec"], given["enc"], weight), stored, **CLOSE)
        torch.testing.assert_close(module(given["dec"], given["enc"], torch.tensor(weight)), stored, **CLOSE)


@pytest.mark.parametrize("impl", ["torchvision", "grid_sample"])
def test_the_deformable_convolution_agrees_in_both_forms(impl):
    given, stored = _given("modulated_deform_conv"), _stored("modulated_deform_conv")
    module = _filled("modulated_deform_conv", DeformableConvolution(32), {"offsets": "conv_offset"})
    with torch.no_grad():
        torch.testing.assert_close(module.offsets(given["feat"]), stored["raw_offset"], **CLOSE)
        torch.testing.assert_close(module(given["x"], given["feat"], impl=impl), stored["out"], **CLOSE)


@pytest.mark.parametrize("convolved", [True, False])
@pytest.mark.parametrize(("which", "rate", "before"), [("first", 4, 0), ("next", 2, 64)])
def test_the_texture_warp_agrees(convolved: bool, which: str, rate: int, before: int):
    block = f"texture_warp_v{1 if convolved else 2}_{which}"
    given, stored = _given(block), _stored(block)
    warp = _filled(block, TextureWarp(32, 8, before=before, rate=rate, convolved=convolved), _WARP)
    with torch.no_grad():
        answer = warp(given["x_main"], given["cond"], given.get("prev"))
    torch.testing.assert_close(answer.texture, stored["warp"], **CLOSE)
    torch.testing.assert_close(answer.trace, stored["offset_feature"], **CLOSE)


def test_the_doubled_trace_agrees():
    block = "offset_feature_upsample"
    torch.testing.assert_close(doubled_trace(_given(block)["x"]), _stored(block)["out"], **CLOSE)


def test_no_recorded_block_is_left_out():
    others = {"transformer_layer", "nearest_code", "adain", "sft_fuse", "modulated_deform_conv"}
    warps = {f"texture_warp_v{version}_{which}" for version in (1, 2) for which in ("first", "next")}
    assert set(_BLOCKS) == {*_PLAIN, *others, *warps, "offset_feature_upsample"}
