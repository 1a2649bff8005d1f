"""Every array of the DAEFR fixtures, computed anew by this library from names of images and weights alone.

The networks are those of `codeprior.recipes.daefr`, and the training values come out of its stages' own objectives.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.codebooks import perplexity, usage
from codeprior.losses import PerceptualLoss, association_loss, code_loss, codebook_loss
from codeprior.prior import VQGAN, Reconstruction
from codeprior.recipes.daefr import recipes
from codeprior.recipes.daefr.association_stage import AssociationStage
from codeprior.recipes.daefr.model import vqgan
from codeprior.recipes.daefr.objective import Objective
from codeprior.recipes.daefr.restoration_stage import RestorationStage
from tests.parity import fill, names

Arrays = dict[str, Any]

NETWORKS = {
    "tiny": recipes.Network(
        size=64, dim=32, codes=64, channels=32, multipliers=(1, 2, 4), width=64, layers=3, hidden=128
    ),
    "full": recipes.Network(),
}
_BATCH = {"tiny": 2, "full": 1}


class Setting(NamedTuple):
    """Which sizes and which images."""

    size: str
    """`tiny` or `full`."""
    images: str
    """Last word of the images' names: `open`, `held`."""

    @property
    def network(self) -> recipes.Network:
        return NETWORKS[self.size]

    @property
    def batch(self) -> int:
        return _BATCH[self.size]

    def image(self, kind: str) -> Tensor:
        return fill.image_for(f"daefr-{self.size}-{kind}-{self.images}", self.batch, self.network.size)


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
            arrays |= _codebook_step(setting, step)
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
        **_prefixed("hq", _of_vqgan(setting, hq, "vqvae")),
        **_prefixed("lq", _of_vqgan(setting, lq, "vqvae_LQ")),
    }
    if setting.size == "tiny":
        shape = tuple(hq.latent.shape)
        first = 4 * fill.tensor_for(f"assoc-hq-{setting.images}", shape)
        second = 2 * fill.tensor_for(f"assoc-lq-{setting.images}", shape) + first
        arrays["given_pair_clip_scale0"] = association_loss(first, second, scale=1.0)
        arrays["given_pair_clip_scale_init"] = association_loss(first, second, scale=1 / 0.07)
        for step in (5, 100):
            arrays |= _association_step(setting, step)
    return arrays


def final_arrays(setting: Setting) -> Arrays:
    """Stage 3: restoration, targets, both losses, and at tiny size the training step's gradients."""
    degraded, clean = setting.image("lq"), setting.image("gt")
    stage = _restoration_stage(setting)
    model, seen = stage.model.eval(), {}
    watched = {"feat_emb": model.predictor.embed, "z_hq": model.hq_encoder, "z_lq": model.lq_encoder}
    watched |= {f"layer{number}": layer for number, layer in enumerate(model.predictor.layers)}
    with torch.no_grad(), _outputs(watched, seen):
        logits, fused = model(degraded)
    with torch.no_grad():
        codes = logits.argmax(-1)
        image = model.prior.decode(codes)
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
        arrays |= _final_step(stage, degraded, clean, image)
    return arrays


def decode_arrays(setting: Setting) -> Arrays:
    """The look-up and the decoder on given codes."""
    network = setting.network
    model = _filled_vqgan(setting.size, "final")
    rows, columns = network.grid
    draws = fill._stream(f"codes:daefr-{setting.images}").randint(0, network.codes, setting.batch * rows * columns)
    codes = torch.as_tensor(draws).reshape(setting.batch, rows, columns)
    with torch.no_grad():
        prior = model.prior()
        image = prior.decode(codes)
    return {"given_codes": codes, "quant_stats": stats(prior.lookup(codes)), "dec": image, **_pictured(image)}


ARRAYS: Mapping[str, Callable[[Setting], Arrays]] = {
    "codebook": codebook_arrays,
    "association": association_arrays,
    "final": final_arrays,
    "decode": decode_arrays,
}
"""What computes the arrays of each kind of file."""


def stats(value: Tensor) -> np.ndarray:
    """Gives mean, population deviation, least, greatest and L2 norm over all elements, in double precision."""
    value = value.detach().double()
    return torch.stack(
        [value.mean(), value.std(correction=0), value.min(), value.max(), value.norm()]
    ).numpy()  # fmt: skip


@lru_cache(maxsize=4)
def autoencode(setting: Setting, prefix: str, kind: str) -> Reconstruction:
    """Gives what a filled VQGAN makes of an image."""
    with torch.no_grad():
        return _filled_vqgan(setting.size, prefix).eval()(setting.image(kind))


def fill_module(module: nn.Module, keys: Mapping[str, str]) -> None:
    """Fills a module with the weights that belong under its reference keys; all of it, or it is an error."""
    own = module.state_dict()
    module.load_state_dict({name: fill.tensor_for(keys[name], tuple(own[name].shape), own[name].dtype) for name in own})


@lru_cache(maxsize=1)
def _filled_vqgan(size: str, prefix: str) -> VQGAN:
    model = vqgan(NETWORKS[size])
    if prefix == "final":
        parts = {
            "encoder": "Fixed_encoder", "quant": "Fixed_quant_conv", "table": "Fixed_quantize", "decoder": "decoder",
            "post": "post_quant_conv",
        }  # fmt: skip
        fill_module(model, names.vqgan_names(model, **{part: f"vqvae.{name}" for part, name in parts.items()}))
    else:
        fill_module(model, names.stage_names(model, prefix))
    return model


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
    encoder, seen = _filled_vqgan(setting.size, "vqvae").encoder, {}
    deepest = len(encoder.levels) - 1
    watched = {"in": encoder.conv_in, "out": encoder.conv_out, "mid_atten": encoder.middle[2]}
    watched[f"block_{deepest}_atten"] = encoder.middle[0]
    blocks = 2 if deepest else 0
    watched |= {f"block_{number}": encoder.levels[number].steps[blocks - 1] for number in range(deepest)}
    with torch.no_grad(), _outputs(watched, seen):
        encoder(setting.image("gt"))
    return {f"enc_{name}_stats": stats(value) for name, value in seen.items()}


def _perceptual(prefix: str) -> PerceptualLoss:
    loss = PerceptualLoss("vgg16", weights="random")
    constants = {name: value.clone() for name, value in loss.scaling_layer.named_buffers()}
    fill_module(loss, {name: f"{prefix}.perceptual_loss.{name}" for name in loss.state_dict()})
    loss.scaling_layer.load_state_dict(constants)
    return loss


def _refill(objective: Objective, prefix: str, loss: str) -> None:
    fill_module(objective.model, names.stage_names(objective.model, prefix))
    judge = objective.discriminator
    fill_module(judge, {name: f"{loss}.discriminator.{name}" for name in judge.state_dict()})
    judge.train()


def _codebook_step(setting: Setting, step: int) -> Arrays:
    recipe = recipes.CodebookRecipe(network=setting.network, learning_rate=0.0, generator_pass="sequential")
    objective = Objective(vqgan(setting.network), _perceptual("loss"), recipe)
    image, norms = setting.image("gt"), step == 40_000
    arrays = _generator_step(objective, image, step, prefix="vqvae", loss="loss", norms=norms)
    arrays |= {"Codebook_loss": arrays["quant_loss"], "Rec_loss": arrays["nll_loss"], "aeloss": arrays["total_loss"]}
    judged = _discriminator_step(objective, image, step, prefix="vqvae", loss="loss", norms=norms)
    return _prefixed(f"step{step}_opt0", arrays) | _prefixed(f"step{step}_opt1", judged | {"discloss": judged["loss"]})


def _association_step(setting: Setting, step: int) -> Arrays:
    recipe = recipes.AssociationRecipe(
        network=setting.network, learning_rate=0.0, generator_pass="sequential", adversarial_start=11, temperature=1.0,
        degradation="daefr", weights={**recipes.association().weights},
    )  # fmt: skip
    stage = AssociationStage(
        recipe, hq=vqgan(setting.network), lq=vqgan(setting.network), perceptual=_perceptual("loss")
    )  # fmt: skip
    stage.lq_objective.perceptual = _perceptual("loss_LQ")
    sides = {
        "hq": (stage.hq_objective, setting.image("gt"), "vqvae", "loss"),
        "lq": (stage.lq_objective, setting.image("lq"), "vqvae_LQ", "loss_LQ"),
    }
    norms, found = step == 100, {}
    for number, (side, (objective, image, prefix, loss)) in enumerate(sides.items()):
        pulls = {}
        for name, (other, picture, *keys) in sides.items():
            _refill(other, *keys)
            other.model.zero_grad(set_to_none=True)
            pulls[name] = other.pull(picture, step)
        joined = stage.association(pulls["hq"], pulls["lq"])
        arrays = _generator_terms(objective, pulls[side].metrics) | {"CLIP_loss": joined}
        total = arrays["total_loss"] + joined
        arrays |= {"loss": total, "total_loss": total, f"{side.upper()}_aeloss": total}
        arrays[f"{side.upper()}_Rec_loss"] = arrays["nll_loss"]
        arrays["Associate_loss" if side == "hq" else "LQ_Associate_loss"] = joined
        if norms:
            torch.autograd.backward([*pulls[side].roots, joined], [*pulls[side].gradients, None])
            arrays |= _gradients(objective.model, names.stage_names(objective.model, prefix))
        judged = _discriminator_step(objective, image, step, prefix=prefix, loss=loss, norms=norms)
        judged[f"{side.upper()}_discloss"] = judged["loss"]
        found |= _prefixed(f"step{step}_opt{2 * number}", arrays) | _prefixed(f"step{step}_opt{2 * number + 1}", judged)
    return found


def _generator_step(
    objective: Objective, image: Tensor, step: int, *, prefix: str, loss: str, norms: bool
) -> Arrays:  # fmt: skip
    _refill(objective, prefix, loss)
    pull = objective.pull(image, step)
    arrays = _generator_terms(objective, pull.metrics)
    if norms:
        torch.autograd.backward(pull.roots, pull.gradients)
        arrays |= _gradients(objective.model, names.stage_names(objective.model, prefix))
    return arrays


def _generator_terms(objective: Objective, metrics: Mapping[str, Tensor]) -> Arrays:
    faithful = metrics["l1"] + metrics["perceptual"]
    fooling = metrics["adaptive_weight"] * metrics["adversarial"]
    return {
        "loss": metrics["total"],
        "total_loss": metrics["total"],
        "quant_loss": metrics["codebook"],
        "nll_loss": faithful,
        "rec_loss": faithful,
        "p_loss": metrics["perceptual"],
        # logged by the reference, whose style term has weight 0; here no such term is in the objective
        "p_style_loss": objective.recipe.weights.get("style", 0.0),
        "d_weight": metrics["adaptive_weight"],
        # what the gate did to the total, rather than what it was set to
        "disc_factor": (metrics["total"] - faithful - metrics["codebook"]) / fooling,
        "g_loss": metrics["adversarial"],
    }


def _discriminator_step(
    objective: Objective, image: Tensor, step: int, *, prefix: str, loss: str, norms: bool
) -> Arrays:  # fmt: skip
    _refill(objective, prefix, loss)
    judge, scores = objective.discriminator, []
    handle = judge.register_forward_hook(lambda _, __, output: scores.append(output.detach().mean()))
    with torch.no_grad():
        fake = objective.model.train()(image).image
    value = objective.step_discriminator(image, fake, step)["discriminator"]
    handle.remove()
    gated = value * float(step >= objective.recipe.adversarial_start)
    arrays = {"loss": gated, "disc_loss": gated, "logits_real": scores[0], "logits_fake": scores[1]}
    if norms:
        arrays |= _gradients(judge, {name: f"{loss}.discriminator.{name}" for name in judge.state_dict()})
    return arrays


def _restoration_stage(setting: Setting) -> RestorationStage:
    recipe = recipes.RestorationRecipe(network=setting.network, learning_rate=0.0)
    teacher = _filled_vqgan(setting.size, "final")
    stage = RestorationStage(recipe, teacher=teacher, hq=teacher, lq=teacher)
    fill_module(stage.model, names.restorer_names(stage.model))
    return stage


def _final_step(stage: RestorationStage, degraded: Tensor, clean: Tensor, image: Tensor) -> Arrays:
    stage.model.train()
    with torch.no_grad():
        target = stage.teacher.encode(clean)
    losses = stage.losses(degraded, target)
    losses["total"].backward()
    return {
        "train_step_loss": losses["total"],
        "train_step_BCE_loss": losses["code"],
        "train_step_L2_loss": losses["feature"],
        "train_step_Rec_loss": (image - clean).abs().mean(),
        **_prefixed("train", _gradients(stage.model, names.restorer_names(stage.model))),
    }


def _gradients(module: nn.Module, keys: Mapping[str, str]) -> Arrays:
    norms = {
        keys[name]: parameter.grad.norm().item()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return {"grad_keys": np.array(list(norms)), "grad_norms": norms}


@contextmanager
def _outputs(watched: Mapping[str, nn.Module], seen: dict[str, Tensor]) -> Iterator[None]:
    """Fills `seen` with what each watched module gave."""
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
        for name, module in watched.items()
    ]
    yield
    for handle in handles:
        handle.remove()


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}_{name}": value for name, value in arrays.items()}
