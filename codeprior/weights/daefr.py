"""Checkpoints of the released DAEFR: which stage one holds, what sizes it has, and our name for each of its tensors.

The rules are pure functions of keys and shapes; the recipe builds the modules and fills them. Source: the key lists and
the container layout recorded from LIAGM/DAEFR@02d5010, of which nothing else is used.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from torch import Tensor

State = Mapping[str, Tensor]
Stage = Literal["codebook", "association", "final"]

_BLOCK = {"nin_shortcut": "skip"}
_ATTENTION = {"norm1": "norm", "norm2": "norm_guide", "q": "query", "k": "key", "v": "value", "proj_out": "project"}
_MIDDLE = {"block_1": "0", "attn_1": "1", "block_2": "2"}
_LAYER = {
    "self_attn.in_proj_weight": "query_key_value.weight",
    "self_attn.in_proj_bias": "query_key_value.bias",
    "self_attn.out_proj": "project",
    "linear1": "expand",
    "linear2": "contract",
}


class Translation(NamedTuple):
    """A checkpoint under our names.

    Attributes:
        stage: Which stage wrote it.
        parts: Our state dicts by part: `vqgan` and `discriminator` (codebook stage), both with `hq_` and `lq_`
            (association), `restorer` (final).
        sizes: What the shapes say of each network: keyword arguments by part and role.
        dropped: Keys that are not kept, each with the reason.
    """

    stage: Stage
    parts: dict[str, dict[str, Tensor]]
    sizes: dict[str, dict]
    dropped: dict[str, str]


def stage_of(state: State) -> Stage:
    """Gives the stage that wrote a state dict.

    Raises:
        ValueError: It is no checkpoint of DAEFR.
    """
    if "vqvae.HQ_encoder.conv_in.weight" in state and "cross_attention.q.weight" in state:
        return "final"
    if "vqvae_LQ.encoder.conv_in.weight" in state:
        return "association"
    if "vqvae.encoder.conv_in.weight" in state and "vqvae.quantize.embedding.weight" in state:
        return "codebook"
    some = ", ".join(list(state)[:3])
    raise ValueError(f"stage_of: no stage of DAEFR has these keys ({some}, …); expected vqvae.encoder.conv_in.weight.")


def translate(state: State) -> Translation:
    """Gives a checkpoint of any stage under our names.

    Args:
        state: Tensors by the reference's keys.

    Raises:
        ValueError: It is no checkpoint of DAEFR, lacks tensors that tell the sizes, or holds a key that the stage does
            not have.
    """
    stage = stage_of(state)
    if absent := _absent(state, stage):
        raise ValueError(f"a {stage} checkpoint has {listed(absent, len(absent))}, which this one lacks")
    if stage == "final":
        return _final(state)
    sides = {"vqvae": "", "loss": ""} if stage == "codebook" else {"vqvae": "hq_", "vqvae_LQ": "lq_"}
    losses = {"loss": "" if stage == "codebook" else "hq_", "loss_LQ": "lq_"}
    parts: dict[str, dict[str, Tensor]] = {}
    dropped: dict[str, str] = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if key == "logit_scale":
            dropped[key] = "the temperature never moved; the recipe states it"
        elif head in losses and rest.startswith("discriminator."):
            part = parts.setdefault(f"{losses[head]}discriminator", {})
            part[rest.removeprefix("discriminator.")] = value
        elif head in losses and rest.startswith("perceptual_loss."):
            dropped[key] = "the perceptual network comes from its own file"
        elif head in sides:
            _keep(parts.setdefault(f"{sides[head]}vqgan", {}), dropped, key, _vqgan_name(rest, state, head), value)
        else:
            raise ValueError(f"translate: a {stage} checkpoint has no key {key}.")
    sizes = {f"{side}vqgan": vqgan_sizes(state, prefix) for prefix, side in sides.items() if prefix != "loss"}
    return Translation(stage, parts, sizes, dropped)


def listed(names: Sequence[str], count: int, *, shown: int = 6) -> str:
    """Gives the first of many names and how many there are.

    Args:
        names: At least as many as are shown.
        count: Of all of them.
        shown: How many are named.
    """
    more = f" and {count - shown} more" if count > shown else ""
    return f"{count} tensors or groups ({', '.join(names[:shown])}{more})"


def vqgan_sizes(state: State, prefix: str, *, encoder: str = "encoder", table: str = "quantize") -> dict:
    """Gives the sizes of a VQGAN, as the keyword arguments of our encoder, codebook and decoder.

    Args:
        state: Tensors by the reference's keys.
        prefix: `vqvae` or `vqvae_LQ`.
        encoder: Which encoder to read.
        table: Which codebook to read.

    Returns:
        `encoder`, `decoder` and `codebook`, each a dictionary of arguments.
    """
    codes, dim = state[f"{prefix}.{table}.embedding.weight"].shape
    shared = {"dim": dim, "latent_channels": state[f"{prefix}.{encoder}.conv_out.weight"].shape[0]}
    return {
        "encoder": shared | _pyramid(state, f"{prefix}.{encoder}.down", f"{prefix}.{encoder}.conv_in.weight", 0),
        "decoder": shared | _pyramid(state, f"{prefix}.decoder.up", f"{prefix}.decoder.conv_out.weight", 1),
        "codebook": {"size": codes, "dim": dim},
    }


def _pyramid(state: State, prefix: str, edge: str, axis: int) -> dict:
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.(block|attn)\.(\d+)\.norm1\.weight")
    found = [match.groups() for match in map(pattern.fullmatch, state) if match]
    levels = 1 + max(int(level) for level, _, _ in found)
    channels = state[edge].shape[axis]
    widths = [state[f"{prefix}.{level}.block.0.conv2.weight"].shape[0] for level in range(levels)]
    return {
        "channels": channels,
        "multipliers": [width // channels for width in widths],
        "blocks": 1 + max(int(block) for _, kind, block in found if kind == "block"),
        "attention": sorted({int(level) for level, kind, _ in found if kind == "attn"}),
    }


def _absent(state: State, stage: Stage) -> list[str]:
    """Gives what every checkpoint of a stage has at its ends, and this one lacks; groups of tensors end in `*`."""
    sides = {"codebook": ("vqvae",), "association": ("vqvae", "vqvae_LQ"), "final": ("vqvae",)}[stage]
    nets, ends = ("encoder",), ("quant_conv", "post_quant_conv")
    table = "quantize"
    if stage == "final":
        nets, ends, table = ("encoder", "HQ_encoder"), (*ends, "HQ_quant_conv"), "Fixed_quantize"
    wanted: list[str] = []
    for side in sides:
        for net, levels in (*((name, "down") for name in nets), ("decoder", "up")):
            layers = [f"{side}.{net}.{name}" for name in ("conv_in", "norm_out", "conv_out")]
            wanted += [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
            wanted += [f"{side}.{net}.mid.*", f"{side}.{net}.{levels}.0.*"]
        wanted += [f"{side}.{name}.{part}" for name in ends for part in ("weight", "bias")]
        wanted.append(f"{side}.{table}.embedding.weight")
    if stage == "final":
        wanted += ["position_emb", "feat_emb.weight", "ft_layers.0.*", "idx_pred_layer.1.weight", "cross_attention.*"]
    heads = {key[: at + 1] for key in state for at, letter in enumerate(key) if letter == "."}
    return [name for name in wanted if (name[:-1] not in heads if name.endswith("*") else name not in state)]


def _final(state: State) -> Translation:
    part: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    for key, value in state.items():
        _keep(part, dropped, key, _final_name(key, state), value)
    dim = state["cross_attention.q.weight"].shape[0]
    width, layers = (
        state["feat_emb.weight"].shape[0],
        len({k.split(".")[1] for k in state if k.startswith("ft_layers.")}),
    )
    side = math.isqrt(state["position_emb"].shape[0])
    sizes = vqgan_sizes(state, "vqvae", table="Fixed_quantize")
    sizes["hq_encoder"] = vqgan_sizes(state, "vqvae", encoder="HQ_encoder", table="Fixed_quantize")["encoder"]
    sizes["lq_encoder"] = sizes.pop("encoder")
    sizes["fusion"] = {"dim": dim}
    sizes["predictor"] = {
        "dim": dim, "size": state["idx_pred_layer.1.weight"].shape[0], "grid": [side, side], "width": width,
        "layers": layers, "hidden": state["ft_layers.0.linear1.weight"].shape[0],
    }  # fmt: skip
    return Translation("final", {"restorer": part}, {"restorer": sizes}, dropped)


def _final_name(key: str, state: State) -> str | None:
    head, _, rest = key.partition(".")
    if head == "vqvae":
        for theirs, mine in (("encoder", "lq_encoder"), ("HQ_encoder", "hq_encoder")):
            if rest.startswith(f"{theirs}."):
                return f"{mine}.{_pyramid_name(rest.removeprefix(theirs + '.'), state, f'vqvae.{theirs}')}"
        for theirs, mine in (("quant_conv", "lq_encoder"), ("HQ_quant_conv", "hq_encoder")):
            if rest.startswith(f"{theirs}."):
                return f"{mine}.to_code.{rest.removeprefix(theirs + '.')}"
        if rest == "Fixed_quantize.embedding.weight":
            return "prior.codebook.weight"
        if rest.startswith("post_quant_conv."):
            return f"prior.decoder.from_code.{rest.removeprefix('post_quant_conv.')}"
        if rest.startswith("decoder."):
            return f"prior.decoder.{_pyramid_name(rest.removeprefix('decoder.'), state, 'vqvae.decoder')}"
        return None
    if head == "cross_attention":
        name, _, leaf = rest.partition(".")
        return f"fusion.attention.{_ATTENTION[name]}.{leaf}"
    if head == "ft_layers":
        number, _, name = rest.partition(".")
        for theirs, mine in _LAYER.items():
            name = name.replace(theirs, mine)
        return f"predictor.layers.{number}.{name}"
    known = {
        "position_emb": "position",
        "feat_emb": "embed",
        "idx_pred_layer.0": "norm_out",
        "idx_pred_layer.1": "to_logits",
    }
    for theirs, mine in known.items():
        if key == theirs or key.startswith(f"{theirs}."):
            return f"predictor.{mine}{key.removeprefix(theirs)}"
    raise ValueError(f"translate: a final checkpoint has no key {key}.")


def _vqgan_name(key: str, state: State, prefix: str) -> str | None:
    head, _, rest = key.partition(".")
    if head in ("encoder", "decoder"):
        name = _pyramid_name(rest, state, f"{prefix}.{head}")
        return None if name is None else f"{head}.{name}"
    known = {
        "quant_conv": "encoder.to_code", "post_quant_conv": "decoder.from_code", "quantize": "codebook",
    }  # fmt: skip
    if head not in known:
        raise ValueError(f"translate: a VQGAN of DAEFR has no key {prefix}.{key}.")
    return f"{known[head]}.{rest.removeprefix('embedding.')}"


def _pyramid_name(key: str, state: State, prefix: str) -> str | None:
    parts = key.split(".")
    if parts[0] == "mid":
        table = _ATTENTION if parts[1].startswith("attn") else _BLOCK
        return ".".join(["middle", _MIDDLE[parts[1]], table.get(parts[2], parts[2]), *parts[3:]])
    if parts[0] not in ("down", "up"):
        return key
    level, kind = parts[1], parts[2]
    where = f"{prefix}.{parts[0]}.{level}"
    stride = 2 if f"{where}.attn.0.norm1.weight" in state else 1
    if kind == "upsample":
        return f"levels.{level}.resample.{'.'.join(parts[3:])}"
    if kind == "downsample":
        blocks = sum(1 for other in state if re.fullmatch(re.escape(where) + r"\.block\.\d+\.norm1\.weight", other))
        return f"levels.{level}.steps.{blocks * stride}.{'.'.join(parts[3:])}"
    number, table = int(parts[3]) * stride, _BLOCK
    if kind == "attn":
        number, table = number + 1, _ATTENTION
    return ".".join([f"levels.{level}.steps", str(number), table.get(parts[4], parts[4]), *parts[5:]])


def _keep(part: dict[str, Tensor], dropped: dict[str, str], key: str, name: str | None, value: Tensor) -> None:
    if name is None:
        dropped[key] = "no forward of this stage reads it"
    elif "norm_guide" in name and not name.startswith("fusion."):
        dropped[key] = "stored by the reference, never used: the block has no guide"
    else:
        part[name] = value
