"""Loss terms and gradient norms of the four stages' training steps, out of the stages' own objectives."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from codeprior.losses import PerceptualLoss
from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.association_stage import AssociationStage
from codeprior.recipes.daefr.model import vqgan
from codeprior.recipes.daefr.restoration_stage import RestorationStage
from codeprior.stages import VQGANObjective
from tests.parity import names
from tests.parity.setting import Arrays, Setting, fill_module, filled_vqgan, prefixed


def codebook_step(setting: Setting, step: int) -> Arrays:
    recipe = settings.CodebookRecipe(network=setting.network, learning_rate=0.0, generator_pass="sequential")
    objective = VQGANObjective(vqgan(setting.network), _perceptual("loss"), recipe)
    image, norms = setting.image("gt"), step == 40_000
    arrays = _generator_step(objective, image, step, prefix="vqvae", loss="loss", norms=norms)
    arrays |= {"Codebook_loss": arrays["quant_loss"], "Rec_loss": arrays["nll_loss"], "aeloss": arrays["total_loss"]}
    judged = _discriminator_step(objective, image, step, prefix="vqvae", loss="loss", norms=norms)
    return prefixed(f"step{step}_opt0", arrays) | prefixed(f"step{step}_opt1", judged | {"discloss": judged["loss"]})


def association_step(setting: Setting, step: int) -> Arrays:
    recipe = settings.AssociationRecipe(
        network=setting.network, learning_rate=0.0, generator_pass="sequential", adversarial_start=11, temperature=1.0,
        degradation="daefr", weights={**settings.association().weights},
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
            pulls[name] = other.generator_pass(picture, step)
        joined = stage.association(*(pulls[name].reconstruction.latent for name in ("hq", "lq")))
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
        found |= prefixed(f"step{step}_opt{2 * number}", arrays) | prefixed(f"step{step}_opt{2 * number + 1}", judged)
    return found


def _generator_step(
    objective: VQGANObjective, image: Tensor, step: int, *, prefix: str, loss: str, norms: bool
) -> Arrays:  # fmt: skip
    _refill(objective, prefix, loss)
    pull = objective.generator_pass(image, step)
    arrays = _generator_terms(objective, pull.metrics)
    if norms:
        torch.autograd.backward(pull.roots, pull.gradients)
        arrays |= _gradients(objective.model, names.stage_names(objective.model, prefix))
    return arrays


def _generator_terms(objective: VQGANObjective, metrics: Mapping[str, Tensor]) -> Arrays:
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
    objective: VQGANObjective, image: Tensor, step: int, *, prefix: str, loss: str, norms: bool
) -> Arrays:  # fmt: skip
    _refill(objective, prefix, loss)
    judge, scores = objective.discriminator, []
    handle = judge.register_forward_hook(lambda _, __, output: scores.append(output.detach().mean()))
    if norms:
        # rounding flips kinks of the leaky ReLU and moves a norm by 1e-3; without it the formula is left
        objective.model.double(), judge.double()
        image = image.double()
    with torch.no_grad():
        fake = objective.model.train()(image).image
    value = objective.step_discriminator([image], [fake], step)["discriminator"]
    handle.remove()
    gated = value * float(step >= objective.recipe.adversarial_start)
    arrays = {"loss": gated, "disc_loss": gated, "logits_real": scores[0], "logits_fake": scores[1]}
    if norms:
        arrays |= _gradients(judge, {name: f"{loss}.discriminator.{name}" for name in judge.state_dict()})
        objective.model.float(), judge.float()
    return arrays


def restoration_stage(setting: Setting) -> RestorationStage:
    recipe = settings.RestorationRecipe(network=setting.network, learning_rate=0.0)
    teacher = filled_vqgan(setting.size, "final")
    stage = RestorationStage(recipe, teacher=teacher, hq=teacher, lq=teacher)
    fill_module(stage.model, names.restorer_names(stage.model))
    return stage


def final_step(stage: RestorationStage, degraded: Tensor, clean: Tensor, image: Tensor) -> Arrays:
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
        **prefixed("train", _gradients(stage.model, names.restorer_names(stage.model))),
    }


def _perceptual(prefix: str) -> PerceptualLoss:
    loss = PerceptualLoss("vgg16", weights="random")
    constants = {name: value.clone() for name, value in loss.scaling_layer.named_buffers()}
    fill_module(loss, {name: f"{prefix}.perceptual_loss.{name}" for name in loss.state_dict()})
    loss.scaling_layer.load_state_dict(constants)
    return loss


def _refill(objective: VQGANObjective, prefix: str, loss: str) -> None:
    fill_module(objective.model, names.stage_names(objective.model, prefix))
    judge = objective.discriminator
    fill_module(judge, {name: f"{loss}.discriminator.{name}" for name in judge.state_dict()})
    judge.train()


def _gradients(module: nn.Module, keys: Mapping[str, str]) -> Arrays:
    norms = {
        keys[name]: parameter.grad.norm().item()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return {"grad_keys": np.array(list(norms)), "grad_norms": norms}
