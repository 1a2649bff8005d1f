"""A VQGAN's batch in parts, one after the other, to save memory; and what must be known of all parts beforehand.

Gradients add up over the parts, and ranks exchange them in the last one. Where one adaptive weight counts for the whole
batch, it is found first, by a forward pass more without a graph.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from codeprior.shapes import Image
from codeprior.stages.updates import sync_gradients_on_last_part, with_skipped
from codeprior.stages.vqgan import GeneratorLosses, GeneratorResult, VQGANObjective
from codeprior.training import step_if_finite


def update_in_parts(objective: VQGANObjective, images: Sequence[Image], step: int) -> dict[str, Tensor]:
    """Makes one update on a batch in parts, with one forward pass for both optimisers.

    Args:
        objective: What is trained.
        images: Signed; the parts.
        step: Number of the update.

    Returns:
        Detached scalars by name, means over the parts.
    """
    objective.begin(step)
    kept, skipped = step_generator(objective, images, step)
    metrics = objective.finish(kept, step)
    metrics |= objective.step_discriminator(images, [one.fake for one in kept], step)
    objective.average.update()
    return with_skipped(metrics, skipped)


def step_generator(
    objective: VQGANObjective, images: Sequence[Image], step: int
) -> tuple[list[GeneratorResult], Tensor]:
    """Moves the VQGAN by the mean over the parts of a batch.

    Args:
        objective: What is trained.
        images: Signed; the parts.
        step: Number of the update.

    Returns:
        What is kept of each part's pass, and how many moves were left out, see `step_if_finite`.
    """
    objective.generator_optimizer.zero_grad(set_to_none=True)
    kept = []
    for part, known in enumerate(precompute(objective, images, step)):
        with sync_gradients_on_last_part(objective.engine, part + 1 == len(images), objective.network):
            found = objective.generator_pass(images[part], step, known).over(len(images))
            objective.engine.backward(found.roots, found.gradients)
        kept.append(objective.kept(found))
    return kept, step_if_finite(objective.generator_optimizer, clip=objective.recipe.clip)


def precompute(
    objective: VQGANObjective, images: Sequence[Image], step: int, *, latents: bool = False
) -> Sequence[GeneratorLosses | None]:
    """Gives, for each part of a batch, what must be known of the whole batch before the first backward pass.

    That is the global adaptive weight, which is no sum over parts, and takes one more forward pass without a graph.

    Args:
        objective: What is trained.
        images: Signed; the parts.
        step: Number of the update.
        latents: Whether the latents are wanted in any case.

    Returns:
        One entry per part; None where nothing need be known.
    """
    joint = objective.recipe.adaptive == "global" and objective.fools(step)
    if len(images) == 1 or not (joint or latents):
        return [None] * len(images)
    found = []
    for image in images:
        found.append(objective.losses(*objective.reconstruction(image, step, recorded=False), image, step))
    gradients = [one.at_last_weight for one in found if one.at_last_weight is not None]
    if joint:
        found = [one._replace(at_last_weight=torch.stack(gradients).mean(0)) for one in found]
    return found
