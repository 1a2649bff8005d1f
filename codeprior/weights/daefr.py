"""Checkpoints of the released DAEFR: which stage one holds, what sizes it has, and our name for each of its tensors.

The rules are pure functions of keys and shapes; the recipe builds the modules and fills them. Source: the key lists and
the container layout recorded from LIAGM/DAEFR@02d5010, of which nothing else is used.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from codeprior.weights.layouts.ladder import State, predictor_name, read_decoder, read_encoder, read_step
from codeprior.weights.layouts.taming import decoder_steps, encoder_steps

Stage = Literal["codebook", "association", "final"]


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
        ValueError: It is no checkpoint of DAEFR, lacks tensors whose shapes give the sizes, or holds a key that the
            stage does not have.
    """
    stage = stage_of(state)
    if absent := _absent(state, stage):
        raise ValueError(f"a {stage} checkpoint has {listed(absent, len(absent))}, which this one lacks")
    if stage == "final":
        return _final(state)
    sides = {"vqvae": "", "loss": ""} if stage == "codebook" else {"vqvae": "hq_", "vqvae_LQ": "lq_"}
    losses = {"loss": "" if stage == "codebook" else "hq_", "loss_LQ": "lq_"}
    names = {key: name for side in sides if side != "loss" for key, name in _vqgan_names(state, side).items()}
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
        elif key in names:
            _keep(parts.setdefault(f"{sides[head]}vqgan", {}), dropped, key, names[key], value)
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
    encoding = read_encoder(state, encoder_steps(state, f"{prefix}.{encoder}"))
    decoding = read_decoder(state, decoder_steps(state, f"{prefix}.decoder"))
    shared = {"dim": dim, "latent_channels": encoding.sizes["dim"]}
    return {
        "encoder": encoding.sizes | shared,
        "decoder": decoding.sizes | shared,
        "codebook": {"size": codes, "dim": dim},
    }


def _absent(state: State, stage: Stage) -> list[str]:
    """Gives tensors that every checkpoint of a stage has and this one lacks; groups of them end in `*`."""
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
    names = _final_names(state)
    for key, value in state.items():
        if key not in names and not key.startswith("vqvae."):
            raise ValueError(f"translate: a final checkpoint has no key {key}.")
        _keep(part, dropped, key, names.get(key), value)
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


def _final_names(state: State) -> dict[str, str]:
    names = {key: name for key in state if (name := predictor_name(key))}
    for theirs, mine in (("encoder", "lq_encoder"), ("HQ_encoder", "hq_encoder")):
        encoder = read_encoder(state, encoder_steps(state, f"vqvae.{theirs}"))
        names |= {key: f"{mine}.{name}" for key, name in encoder.names.items()}
    decoder = read_decoder(state, decoder_steps(state, "vqvae.decoder"))
    names |= {key: f"prior.decoder.{name}" for key, name in decoder.names.items()}
    names |= read_step(state, "cross_attention", "fusion.attention")
    for leaf in ("weight", "bias"):
        names[f"vqvae.quant_conv.{leaf}"] = f"lq_encoder.to_code.{leaf}"
        names[f"vqvae.HQ_quant_conv.{leaf}"] = f"hq_encoder.to_code.{leaf}"
        names[f"vqvae.post_quant_conv.{leaf}"] = f"prior.decoder.from_code.{leaf}"
    return names | {"vqvae.Fixed_quantize.embedding.weight": "prior.codebook.weight"}


def _vqgan_names(state: State, prefix: str) -> dict[str, str]:
    encoder = read_encoder(state, encoder_steps(state, f"{prefix}.encoder"))
    decoder = read_decoder(state, decoder_steps(state, f"{prefix}.decoder"))
    names = {key: f"encoder.{name}" for key, name in encoder.names.items()}
    names |= {key: f"decoder.{name}" for key, name in decoder.names.items()}
    for leaf in ("weight", "bias"):
        names[f"{prefix}.quant_conv.{leaf}"] = f"encoder.to_code.{leaf}"
        names[f"{prefix}.post_quant_conv.{leaf}"] = f"decoder.from_code.{leaf}"
    return names | {f"{prefix}.quantize.embedding.weight": "codebook.weight"}


def _keep(part: dict[str, Tensor], dropped: dict[str, str], key: str, name: str | None, value: Tensor) -> None:
    if name is None:
        dropped[key] = "no forward of this stage reads it"
    elif "norm_guide" in name and not name.startswith("fusion."):
        dropped[key] = "stored by the reference, never used: the block has no guide"
    else:
        part[name] = value
