"""Every array of the DAEFR fixtures, computed anew by this library from names of images and weights alone.

The networks are those of `codeprior.recipes.daefr`, and the training values come out of its stages' own objectives.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from codeprior.codebooks import perplexity, usage
from codeprior.losses import association_loss, code_loss, codebook_loss
from codeprior.prior import Reconstruction
from tests.parity import fill
from tests.parity.setting import Arrays, Setting, filled_vqgan, outputs, prefixed, stats
from tests.parity.steps import association_step, codebook_step, final_step, restoration_stage


def codebook_arrays(setting: Setting) -> Arrays:
    """Stage 1: the forward pass, and at tiny size both steps of both optimisers."""
    forward = autoencode(setting, "vqvae", "gt")
    arrays = {
        "input_gt_stats": stats(setting.image("gt")),
        "vq_perplexity": perplexity(usage(forward.quantized.indices, setting.network.codes)),
        "quant_stats": stats(forward.quantized.values),
        "quant": forward.quantized.values,
        **_of_vqgan(setting, forward, "vqvae"),
        **_encoder_stats(setting),
    }
    if setting.size == "tiny":
        for step in (0, 40_000):
            arrays |= codebook_step(setting, step)
    return arrays


def association_arrays(setting: Setting) -> Arrays:
    """Stage 2: both networks, the loss that joins them, and at tiny size both steps of all four optimisers."""
    hq, lq = autoencode(setting, "vqvae", "gt"), autoencode(setting, "vqvae_LQ", "lq")
    filled = association_loss(hq.latent, lq.latent, scale=1.0)
    arrays = {
        "input_lq_stats": stats(setting.image("lq")),
        "input_gt_stats": stats(setting.image("gt")),
        "clip_loss_scale_fill": filled,
        "clip_loss_scale_fill_again": filled,
        "clip_loss_scale_init": association_loss(hq.latent, lq.latent, scale=1 / 0.07),
        **prefixed("hq", _of_vqgan(setting, hq, "vqvae")),
        **prefixed("lq", _of_vqgan(setting, lq, "vqvae_LQ")),
    }
    if setting.size == "tiny":
        shape = tuple(hq.latent.shape)
        first = 4 * fill.tensor_for(f"assoc-hq-{setting.images}", shape)
        second = 2 * fill.tensor_for(f"assoc-lq-{setting.images}", shape) + first
        arrays["given_pair_clip_scale0"] = association_loss(first, second, scale=1.0)
        arrays["given_pair_clip_scale_init"] = association_loss(first, second, scale=1 / 0.07)
        for step in (5, 100):
            arrays |= association_step(setting, step)
    return arrays


def final_arrays(setting: Setting) -> Arrays:
    """Stage 3: restoration, targets, both losses, and at tiny size the training step's gradients."""
    degraded, clean = setting.image("lq"), setting.image("gt")
    stage = restoration_stage(setting)
    model, seen = stage.model.eval(), {}
    watched = {"feat_emb": model.predictor.embed, "z_hq": model.hq_encoder, "z_lq": model.lq_encoder}
    watched |= {f"layer{number}": layer for number, layer in enumerate(model.predictor.layers)}
    with torch.no_grad(), outputs(watched, seen):
        logits, fused = model(degraded)
    with torch.no_grad():
        codes = logits.argmax(-1)
        image = model.prior.decode_indices(codes)
        own, target = model.prior.quantize(seen["z_lq"]), stage.teacher.encode(clean)
        losses = stage.losses(degraded, target)
    last = seen[f"layer{setting.network.layers - 1}"]
    flat, quant = rearrange(logits, "b h w k -> b (h w) k"), model.prior.lookup(codes)
    top = flat.topk(2).values
    arrays = {
        "input_lq_stats": stats(degraded),
        "input_gt_stats": stats(clean),
        "codes": codes,
        "logit_margin": rearrange(top[..., 0] - top[..., 1], "b (h w) -> b h w", h=codes.shape[1]),
        "self_indices": own.indices,
        "self_vq_margin": _margin(seen["z_lq"], model.prior.codebook.weight),
        "gt_indices": target.indices,
        "infer_ce_vs_self": code_loss(logits, own.indices),
        "infer_l2_vs_self": F.mse_loss(fused, own.codes),
        "train_ce": losses["code"],
        "train_l2": losses["feature"],
        "train_total_ce_plus_10_l2": losses["total"],
        "feat_emb": seen["feat_emb"],
        "transformer_out": last,
        "logits": flat,
        "logits_top2": top,
        "logits_every8_f16": flat[:, ::8],
        "transformer_every8_f16": last[:, ::8],
        "dec": image,
        **_pictured(image),
        **{f"{name}_stats": stats(value) for name, value in seen.items() if name.startswith("layer")},
    }
    features = {"z_lq": seen["z_lq"], "z_hq": seen["z_hq"], "fused": fused, "quant": quant}
    for name, value in features.items():
        arrays |= {name: value, f"{name}_f16": value, f"{name}_rows": value[:, :, 7, ::4]}
    for name, value in {**features, "logits": flat, "transformer": last, "gt_quant": target.codes}.items():
        arrays[f"{name}_stats"] = stats(value)
    if setting.size == "tiny":
        arrays |= final_step(stage, degraded, clean, image)
    return arrays


def decode_arrays(setting: Setting) -> Arrays:
    """The look-up and the decoder on given codes."""
    network = setting.network
    model = filled_vqgan(setting.size, "final")
    rows, columns = network.grid
    draws = fill._stream(f"codes:daefr-{setting.images}").randint(0, network.codes, setting.batch * rows * columns)
    codes = torch.as_tensor(draws).reshape(setting.batch, rows, columns)
    with torch.no_grad():
        prior = model.prior()
        image = prior.decode_indices(codes)
    return {"given_codes": codes, "quant_stats": stats(prior.lookup(codes)), "dec": image, **_pictured(image)}


ARRAYS: Mapping[str, Callable[[Setting], Arrays]] = {
    "codebook": codebook_arrays,
    "association": association_arrays,
    "final": final_arrays,
    "decode": decode_arrays,
}
"""What computes the arrays of each kind of file."""


@lru_cache(maxsize=4)
def autoencode(setting: Setting, prefix: str, kind: str) -> Reconstruction:
    """Gives what a filled VQGAN makes of an image."""
    with torch.no_grad():
        return filled_vqgan(setting.size, prefix).eval()(setting.image(kind))


def _of_vqgan(setting: Setting, forward: Reconstruction, prefix: str) -> Arrays:
    table = fill.tensor_for(f"{prefix}.quantize.embedding.weight", (setting.network.codes, setting.network.dim))
    latent = forward.latent
    return {
        "vq_indices": forward.quantized.indices,
        "vq_loss": codebook_loss(latent, forward.quantized.codes),
        "vq_margin": _margin(latent, table),
        "z": latent,
        "z_stats": stats(latent),
        "z_f16": latent,
        "z_rows": latent[:, :, 7, ::4],
        "dec": forward.image,
        **_pictured(forward.image),
    }


def _pictured(image: Tensor) -> Arrays:
    wide = image.double()
    return {
        "dec_stats": stats(image),
        "dec_channel_mean": wide.mean((0, 2, 3)).numpy(),
        "dec_channel_std": wide.std((0, 2, 3), correction=0).numpy(),
        "dec_pool8": F.avg_pool2d(image, 8),
        "dec_grid16": image[:, :, 5::16, 11::16],
    }


def _margin(latent: Tensor, table: Tensor) -> Tensor:
    rows = rearrange(latent, "b d h w -> b h w d").double()
    nearest = torch.cdist(rows, table.double()).square().topk(2, largest=False).values
    return nearest[..., 1] - nearest[..., 0]


def _encoder_stats(setting: Setting) -> Arrays:
    if setting.size != "tiny":
        return {}
    encoder, seen = filled_vqgan(setting.size, "vqvae").encoder, {}
    deepest = len(encoder.levels) - 1
    watched = {"in": encoder.conv_in, "out": encoder.conv_out, "mid_atten": encoder.middle[2]}
    watched[f"block_{deepest}_atten"] = encoder.middle[0]
    blocks = 2 if deepest else 0
    watched |= {f"block_{number}": encoder.levels[number].steps[blocks - 1] for number in range(deepest)}
    with torch.no_grad(), outputs(watched, seen):
        encoder(setting.image("gt"))
    return {f"enc_{name}_stats": stats(value) for name, value in seen.items()}
