"""Checkpoints of RestoreFormer: the high-quality dictionary, the restorer, and RestoreFormer++.

The dictionary and the restorer have the same tensors of the same shapes, so a file cannot say which it is, nor how many
heads its attention has; the caller must say so. Source: keys and containers recorded from
wzhouxiff/RestoreFormer@294cf95, of which nothing else is used.
"""

from typing import Literal, NamedTuple

from torch import Tensor

from codeprior.weights.layouts.ladder import Ladder, State, account, read_decoder, read_encoder
from codeprior.weights.layouts.taming import decoder_steps, encoder_steps

Variant = Literal["restorer", "dictionary"]
"""What a file of RestoreFormer is taken for."""

_PREFIXES = ("vqvae.", "")  # the trainer's own files have the first, files that others made from them have none


class RestoreFormerTranslation(NamedTuple):
    """A checkpoint of RestoreFormer under our names.

    Attributes:
        plus: Whether it is RestoreFormer++, whose decoder also attends at half the deepest resolution.
        tensors: By our names: `encoder.`, `codebook.` and `decoder.`.
        encoder: Keyword arguments of our encoder.
        codebook: Keyword arguments of our codebook.
        decoder: Keyword arguments of our decoder.
        dropped: Keys that are not kept, each with the reason.
    """

    plus: bool
    tensors: dict[str, Tensor]
    encoder: dict
    codebook: dict
    decoder: dict
    dropped: dict[str, str]


def is_restoreformer(state: State) -> bool:
    """Says by the keys whether a state dict is of RestoreFormer.

    Args:
        state: Tensors by the checkpoint's keys.
    """
    return any(
        f"{prefix}encoder.down.0.block.0.conv1.weight" in state
        and f"{prefix}post_quant_conv.weight" in state
        and f"{prefix}decoder.mid.attn_1.norm2.weight" in state
        for prefix in _PREFIXES
    ) and not any(key.startswith(("vqvae_LQ.", "vqvae.HQ_encoder.")) for key in state)


def translate_restoreformer(
    state: State, *, variant: Variant = "restorer", heads: int | None = None
) -> RestoreFormerTranslation:
    """Gives a checkpoint of RestoreFormer under our names.

    Args:
        state: Tensors by the checkpoint's keys.
        variant: What it is taken for; the tensors do not show it.
        heads: Of every attention, which no tensor shows; the published ones unless given: 8, and 4 for ++.

    Raises:
        ValueError: It is no such checkpoint, only a part of one, or holds a key that the model does not have.
    """
    if not is_restoreformer(state):
        raise ValueError("restoreformer: expected encoder.down.0.block.0.conv1.weight and post_quant_conv.weight.")
    prefix = next(p for p in _PREFIXES if f"{p}post_quant_conv.weight" in state)
    dropped = {key: "of the losses and discriminators of training" for key in state if key.startswith("loss.")}
    kept = {key.removeprefix(prefix): value for key, value in state.items() if key not in dropped}
    encoder = read_encoder(kept, encoder_steps(kept, "encoder"))
    decoder = read_decoder(kept, decoder_steps(kept, "decoder"))
    guided = variant == "restorer"
    names = _names(encoder, decoder)
    for key in list(kept):
        if names.get(key, "").find("norm_guide") > 0 and not (guided and key.startswith("decoder.")):
            dropped[prefix + key] = "stored by the reference, never used: the block has no guide"
            kept.pop(key)
    codes, dim = kept["quantize.embedding.weight"].shape
    plus = len(decoder.sizes["attention"]) > 1
    shared = {"dim": dim, "heads": heads or (4 if plus else 8), "latent_channels": encoder.sizes["dim"]}
    return RestoreFormerTranslation(
        plus,
        account(kept, names, who="restoreformer"),
        encoder.sizes | shared,
        {"size": codes, "dim": dim},
        decoder.sizes | shared | {"guided": guided},
        dropped,
    )


def _names(encoder: Ladder, decoder: Ladder) -> dict[str, str]:
    names = {key: f"encoder.{name}" for key, name in encoder.names.items()}
    names |= {key: f"decoder.{name}" for key, name in decoder.names.items()}
    for leaf in ("weight", "bias"):
        names[f"quant_conv.{leaf}"] = f"encoder.to_code.{leaf}"
        names[f"post_quant_conv.{leaf}"] = f"decoder.from_code.{leaf}"
    return names | {"quantize.embedding.weight": "codebook.weight"}
