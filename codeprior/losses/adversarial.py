"""What the discriminator and the generator want of the discriminator's map: hinge losses."""

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
