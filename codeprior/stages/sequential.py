"""A VQGAN's update as the reference runs it: each optimiser has a forward pass of its own.

The discriminator then judges what the VQGAN makes after its own step. Source: LIAGM/DAEFR, training with one optimiser
after the other (PyTorch Lightning 1).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from codeprior.shapes import Image
from codeprior.stages.accumulated import step_generator
from codeprior.stages.updates import with_skipped
from codeprior.stages.vqgan import VQGANObjective


def update_sequentially(objective: VQGANObjective, images: Sequence[Image], step: int) -> dict[str, Tensor]:
    """Makes one update: the generator's, then the discriminator's on a forward pass of the VQGAN as it is by then.

    Args:
        objective: What is trained.
        images: Signed; the parts of a batch.
        step: Number of the update.

    Returns:
        Detached scalars by name, means over the parts.
    """
    objective.begin(step)
    kept, skipped = step_generator(objective, images, step)
    metrics = objective.finish(kept, step)
    metrics |= objective.step_discriminator(images, reconstruct_again(objective, images, step), step)
    objective.average.update()
    return with_skipped(metrics, skipped)


@torch.no_grad()
def reconstruct_again(objective: VQGANObjective, images: Sequence[Image], step: int) -> list[Image]:
    """Gives reconstructions by the VQGAN as it is now, from a whole forward pass in training mode.

    Args:
        objective: What is trained.
        images: Signed; the parts of a batch.
        step: Number of the update.
    """
    coded = objective.coded(step)
    found = [objective.model(image, coded=coded) for image in images]
    if coded:
        objective.follow([one.latent for one in found])
    return [one.image for one in found]
