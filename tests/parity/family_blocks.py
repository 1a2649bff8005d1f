"""The recorded blocks of CodeFormer, VQFR and RestoreFormer, computed by the library's own."""

import json
from pathlib import Path
from typing import Any

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

FIXTURES = Path(__file__).parent / "fixtures" / "codebook_family"
BLOCKS = json.loads((FIXTURES / "blocks.json").read_text())

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
_TRANSFORM = {"join.skip": "encode_enc.conv_out", "join": "encode_enc"}
_PLAIN = {
    "resblock": (lambda: ResidualBlock(32, 64), _RESIDUAL, ()),
    "attn_single_head": (lambda: AttentionBlock(64), _ATTENTION, ()),
    "attn_multi_head_self": (lambda: AttentionBlock(64, heads=8), _MANY, ("norm2",)),
    "attn_multi_head_cross": (lambda: AttentionBlock(64, heads=8, guided=True), _MANY, ()),
    "downsample_pad_right_bottom": (lambda: Downsample(16), {}, ()),
    "upsample_nearest_then_conv": (lambda: Upsample(16), {}, ()),
    "bilinear_down4_then_conv": (lambda: BilinearDownsample(8, 16, rate=4), {}, ()),
    "conv_then_bilinear_up2": (lambda: BilinearUpsample(16, 8), {}, ()),
}


def arrays(*, gradients: bool = False, impl: Any = None) -> dict[str, Any]:
    """Gives every output of the recorded blocks.

    Args:
        gradients: Whether gradients are recorded; the layers choose other arithmetic then.
        impl: Who computes the deformable convolution.
    """
    with torch.set_grad_enabled(gradients):
        found = {}
        for block, (build, renamed, unused) in _PLAIN.items():
            found[f"{block}__out"] = _filled(block, build(), renamed, unused)(*_given(block).values())
        found |= _others() | _deformed(impl)
        for version in (1, 2):
            for which, rate, before in (("first", 4, 0), ("next", 2, 64)):
                block = f"texture_warp_v{version}_{which}"
                given = _given(block)
                warp = _filled(block, TextureWarp(32, 8, before=before, rate=rate, convolved=version == 1), _WARP)
                answer = warp(given["x_main"], given["cond"], given.get("prev"))
                found |= {f"{block}__warp": answer.texture, f"{block}__offset_feature": answer.trace}
        return {name: value.detach() if isinstance(value, Tensor) else value for name, value in found.items()}


def _others() -> dict[str, Any]:
    given, block = _given("transformer_layer"), "transformer_layer"
    layer = _filled(block, SelfAttentionLayer(64, heads=8, hidden=128), _LAYER)
    tokens = layer(rearrange(given["x"], "n b c -> b n c"), given["pos"][:, 0])
    latent = _given("nearest_code")["x"]
    quantized = _filled("nearest_code", Codebook(64, 16), {"weight": "embedding.weight"})(latent)
    statistics, fused = _given("adain"), _given("sft_fuse")
    transform = _filled("sft_fuse", ControllableTransform(32, 32), _TRANSFORM)
    return {
        "transformer_layer__out": rearrange(tokens, "b n c -> n b c"),
        "nearest_code__quantised": quantized.values,
        "nearest_code__loss": codebook_loss(latent, quantized.codes),
        "nearest_code__indices": quantized.indices.flatten(),
        "nearest_code__perplexity": perplexity(usage(quantized.indices, 64)),
        "adain__out": adain(statistics["content"], 1.7 * statistics["style"] + 0.3),
        "offset_feature_upsample__out": doubled_trace(_given("offset_feature_upsample")["x"]),
        **{
            f"sft_fuse__w{int(100 * weight):03d}": transform(fused["dec"], fused["enc"], weight)
            for weight in (0.0, 0.5, 1.0)
        },
    }


def _deformed(impl: Any) -> dict[str, Any]:
    block = "modulated_deform_conv"
    given = _given(block)
    module = _filled(block, DeformableConvolution(32), {"offsets": "conv_offset"})
    return {
        f"{block}__raw_offset": module.offsets(given["feat"]),
        f"{block}__out": module(given["x"], given["feat"], impl=impl),
    }


def _official(name: str, renamed: dict[str, str]) -> str:
    for mine, theirs in renamed.items():
        if name == mine or name.startswith(f"{mine}."):
            return theirs + name.removeprefix(mine)
    return name


def _filled(block: str, module: nn.Module, renamed: dict[str, str], unused: tuple[str, ...] = ()) -> Any:
    """Fills a module by the official names; every official parameter must have its place, except the unused."""
    shapes = {name: tuple(shape) for name, shape in BLOCKS[block]["params"] if not name.startswith(unused or ("-",))}
    own = {name: (_official(name, renamed), tuple(value.shape)) for name, value in module.state_dict().items()}
    if dict(own.values()) != shapes:
        raise ValueError(
            f"{block}: our tensors are not the official ones: {sorted(set(own.values()) ^ set(shapes.items()))}"
        )
    state = {name: fill.tensor_for(f"blocks.{block}.{theirs}", shape) for name, (theirs, shape) in own.items()}
    module.load_state_dict(state)
    return module.eval()


def _given(block: str) -> dict[str, Tensor]:
    inputs = BLOCKS[block]["inputs"]
    return {name: fill.tensor_for(f"input.embedding.{block}.{name}", tuple(shape)) for name, shape in inputs.items()}
