"""What passes between the parts of a VQGAN's update: losses, what is walked back from, what is kept.

And how the discriminator fares, by which an update decides whether it rests.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from codeprior.losses import LossAtImage
from codeprior.prior import Reconstruction
from codeprior.shapes import Image, Latent


class GeneratorLosses(NamedTuple):
    """The losses of a reconstruction, with their gradients at its pixels, all of it detached.

    Attributes:
        faithful: L1 or whatever measures pixels, and the perceptual distance, weighted.
        adversarial: The adversarial term; None while it is left out.
        at_last_weight: Both losses' gradients at the decoder's last weight; None where there is no adversarial term.
        latent: What the encoder gave.
        metrics: Scalars by name.
    """

    faithful: LossAtImage
    adversarial: LossAtImage | None
    at_last_weight: Tensor | None
    latent: Latent
    metrics: dict[str, Tensor]


class BackwardInputs(NamedTuple):
    """What a generator pass gives to the backward pass, and what it logs.

    Attributes:
        roots: Tensors at which the backward pass begins.
        gradients: The gradient at each root; None for scalars.
        metrics: Detached scalars by name.
        reconstruction: What the VQGAN gave.
    """

    roots: list[Tensor]
    gradients: list[Tensor | None]
    metrics: dict[str, Tensor]
    reconstruction: Reconstruction

    def over(self, count: int) -> "BackwardInputs":
        """Gives the same with gradients divided by a number."""
        if count == 1:
            return self
        pairs = zip(self.roots, self.gradients, strict=True)
        shares = [torch.full_like(root, 1 / count) if given is None else given / count for root, given in pairs]
        return self._replace(gradients=shares)


class GeneratorResult(NamedTuple):
    """What is kept of a generator pass when its graph is gone.

    Attributes:
        fake: `b 3 H W`, signed; what the VQGAN gave.
        latent: What its encoder gave.
        counts: `(m, k)`, how often each code of each table was chosen; `(0, k)` while latents are not exchanged.
        metrics: Scalars by name.
    """

    fake: Image
    latent: Latent
    counts: Tensor
    metrics: dict[str, Tensor]


class Health(nn.Module):
    """How a discriminator fares: the moving mean of its loss, which falls to zero where it has won.

    Attributes:
        loss: Scalar buffer; the mean over some 20 updates, 1 at first.
    """

    loss: Tensor
    begins_anew = True

    def __init__(self):
        super().__init__()
        self.register_buffer("loss", torch.ones(()))

    def rests(self, loss: Tensor, *, below: float) -> Tensor:
        """Takes a loss into the mean, and gives whether the mean is below a threshold, on the loss's device.

        Args:
            loss: Scalar.
            below: The threshold.
        """
        mean = self.loss.lerp(loss.to(self.loss.dtype), 0.05)
        self.loss.copy_(torch.where(loss.isfinite(), mean, self.loss))
        return self.loss < below
