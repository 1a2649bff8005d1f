"""Losses of the discriminator and of the generator, from the discriminator's scores: hinge and logistic."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def hinge_discriminator_loss(real: Float[Tensor, "..."], fake: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Gives `½ (mean relu(1 − D(x)) + mean relu(1 + D(x̂)))`.

    Args:
        real: The discriminator's map of real images, any shape.
        fake: Its map of detached reconstructions, any shape.

    Returns:
        The discriminator's loss; 1 where it answers 0 everywhere.

    Source:
        taming-transformers, DAEFR, RestoreFormer. CodeFormer leaves the ½ out.
    """
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def generator_adversarial_loss(fake: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Gives `−mean D(x̂)`, what the generator lowers against a hinge discriminator.

    Args:
        fake: The discriminator's map of reconstructions, any shape, with its gradient to the image.
    """
    return -fake.mean()


def logistic_discriminator_loss(real: Float[Tensor, "..."], fake: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Gives `mean softplus(−D(x)) + mean softplus(D(x̂))`.

    Args:
        real: The discriminator's answers to real images, any shape.
        fake: Its answers to detached made ones, any shape.

    Returns:
        The discriminator's loss; `2 ln 2` where it answers 0 everywhere.

    Source:
        Goodfellow et al. 2014, as in StyleGAN2 and GPEN.
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def logistic_generator_loss(fake: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Gives `mean softplus(−D(x̂))`, what the generator lowers against a logistic discriminator.

    Args:
        fake: The discriminator's answers to made images, any shape, with their gradient to the image.

    Source:
        Goodfellow et al. 2014, the non-saturating form, as in StyleGAN2 and GPEN.
    """
    return F.softplus(-fake).mean()


def feature_matching_loss(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Gives the sum over a discriminator's layers of the mean absolute difference of their features.

    Args:
        fake: Features of the made images, one tensor a layer.
        real: Of the real ones, of the same shapes; no gradient goes there.

    Raises:
        ValueError: The counts of layers differ.

    Source:
        Wang et al. 2018 (pix2pixHD); GPEN's third loss. GPEN's paper leaves layers, norm and reduction open, and its
        code has no such term: all layers, and means, are our choice.
    """
    if len(fake) != len(real):
        raise ValueError(
            f"feature_matching_loss: expected as many layers of both, got {len(fake)} of made and {len(real)} of real "
            "images."
        )
    return torch.stack([(made - true.detach()).abs().mean() for made, true in zip(fake, real, strict=True)]).sum()
