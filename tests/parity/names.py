"""Which tensor of the released DAEFR stands where in ours: our name to its key, read off the modules themselves.

This is stated independently of `codeprior.weights`, so that converting by one and filling by the other must agree.
"""

from collections.abc import Iterator

from torch import nn

from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.layers import AttentionBlock, Downsample, ResidualBlock
from codeprior.prior import VQGAN

_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "skip": "nin_shortcut"}
_ATTENTION = {
    "norm": "norm1", "norm_guide": "norm2", "query": "q", "key": "k", "value": "v", "project": "proj_out",
}  # fmt: skip
_LAYER = {
    "query_key_value.weight": "self_attn.in_proj_weight", "query_key_value.bias": "self_attn.in_proj_bias",
    "project": "self_attn.out_proj", "expand": "linear1", "contract": "linear2", "norm1": "norm1", "norm2": "norm2",
}  # fmt: skip
_MIDDLE = ("block_1", "attn_1", "block_2")


def vqgan_names(model: VQGAN, *, encoder: str, quant: str, table: str, decoder: str, post: str) -> dict[str, str]:
    """Gives `{our name: reference key}` of a whole VQGAN; the arguments are the reference's prefixes."""
    names = {f"encoder.{mine}": theirs for mine, theirs in encoder_names(model.encoder, encoder, quant).items()}
    names |= {f"decoder.{mine}": theirs for mine, theirs in decoder_names(model.decoder, decoder, post).items()}
    return names | {"codebook.weight": f"{table}.embedding.weight"}


def stage_names(model: VQGAN, prefix: str) -> dict[str, str]:
    """Gives the names of a VQGAN as stages 1 and 2 save it, under `vqvae` or `vqvae_LQ`."""
    parts = {"encoder": "encoder", "quant": "quant_conv", "table": "quantize", "decoder": "decoder"}
    return vqgan_names(
        model, **{k: f"{prefix}.{v}" for k, v in parts.items()}, post=f"{prefix}.post_quant_conv"
    )  # fmt: skip


def encoder_names(model: VQGANEncoder, prefix: str, quant: str) -> dict[str, str]:
    """Gives the names of an encoder and of its last 1×1 convolution."""
    pairs = dict(_around(prefix)) | {"to_code": quant}
    for number, level in enumerate(model.levels):
        pairs |= _level(level.steps, f"levels.{number}.steps", f"{prefix}.down.{number}")
    return _expand(model, pairs)


def decoder_names(model: VQGANDecoder, prefix: str, post: str) -> dict[str, str]:
    """Gives the names of a decoder and of its first 1×1 convolution."""
    pairs = dict(_around(prefix)) | {"from_code": post}
    for number, level in enumerate(model.levels):
        pairs |= _level(level.steps, f"levels.{number}.steps", f"{prefix}.up.{number}")
        pairs[f"levels.{number}.resample.conv"] = f"{prefix}.up.{number}.upsample.conv"
    return _expand(model, pairs)


def restorer_names(model: nn.Module) -> dict[str, str]:
    """Gives the names of the whole restorer of stage 3."""
    names = {"prior.codebook.weight": "vqvae.Fixed_quantize.embedding.weight"}
    parts = {
        "prior.decoder.": decoder_names(model.prior.decoder, "vqvae.decoder", "vqvae.post_quant_conv"),
        "hq_encoder.": encoder_names(model.hq_encoder, "vqvae.HQ_encoder", "vqvae.HQ_quant_conv"),
        "lq_encoder.": encoder_names(model.lq_encoder, "vqvae.encoder", "vqvae.quant_conv"),
        "fusion.": _expand(model.fusion, {f"attention.{a}": f"cross_attention.{b}" for a, b in _ATTENTION.items()}),
        "predictor.": _predictor(model.predictor),
    }
    for prefix, part in parts.items():
        names |= {prefix + mine: theirs for mine, theirs in part.items()}
    return names


def _predictor(model: nn.Module) -> dict[str, str]:
    pairs = {"embed": "feat_emb", "norm_out": "idx_pred_layer.0", "to_logits": "idx_pred_layer.1"}
    pairs["position"] = "position_emb"
    for number in range(len(model.layers)):
        pairs |= {f"layers.{number}.{mine}": f"ft_layers.{number}.{theirs}" for mine, theirs in _LAYER.items()}
    return _expand(model, pairs)


def _around(prefix: str) -> Iterator[tuple[str, str]]:
    for same in ("conv_in", "norm_out", "conv_out"):
        yield same, f"{prefix}.{same}"
    for number, (name, table) in enumerate(zip(_MIDDLE, (_BLOCK, _ATTENTION, _BLOCK), strict=True)):
        for mine, theirs in table.items():
            yield f"middle.{number}.{mine}", f"{prefix}.mid.{name}.{theirs}"


def _level(steps: nn.Sequential, mine: str, theirs: str) -> dict[str, str]:
    pairs, blocks, attentions = {}, 0, 0
    for number, step in enumerate(steps):
        if isinstance(step, ResidualBlock):
            pairs |= {f"{mine}.{number}.{a}": f"{theirs}.block.{blocks}.{b}" for a, b in _BLOCK.items()}
            blocks += 1
        elif isinstance(step, AttentionBlock):
            pairs |= {f"{mine}.{number}.{a}": f"{theirs}.attn.{attentions}.{b}" for a, b in _ATTENTION.items()}
            attentions += 1
        elif isinstance(step, Downsample):
            pairs[f"{mine}.{number}.conv"] = f"{theirs}.downsample.conv"
    return pairs


def _expand(model: nn.Module, pairs: dict[str, str]) -> dict[str, str]:
    """From modules to their tensors; a tensor that nobody named is an error."""
    names = {}
    for tensor in model.state_dict():
        owner = tensor
        while owner not in pairs:
            owner, dot, _ = owner.rpartition(".")
            if not dot:
                raise KeyError(f"no reference key is known for {tensor}")
        names[tensor] = pairs[owner] + tensor[len(owner) :]
    return names
