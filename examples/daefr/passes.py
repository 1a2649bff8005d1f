"""What passes between the parts of a VQGAN's step: losses, what is walked back from, what is kept; and how it fares."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from codeprior.losses import LossAtImage
from codeprior.prior import Reconstruction
from codeprior.shapes import Image, Latent


class Judged(NamedTuple):
    """What the losses say of a reconstruction, all of it detached.

    Attributes:
        wanted: Faithfulness: L1 and the perceptual distance, weighed.
        fooling: The adversarial term; None while it is left out.
        pulls: Both losses' gradients at the last weight; None where there is no adversarial term.
        latent: What the encoder gave.
        metrics: Scalars by name.
    """

    wanted: LossAtImage
    fooling: LossAtImage | None
    pulls: Tensor | None
    latent: Latent
    metrics: dict[str, Tensor]


class Passed(NamedTuple):
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


class Pull(NamedTuple):
    """What a generator pass asks of the backward pass, and what it has to say.

    Attributes:
        roots: Tensors to walk back from.
        gradients: The gradient at each root; None for scalars.
        metrics: Detached scalars by name.
        reconstruction: What the VQGAN gave.
    """

    roots: list[Tensor]
    gradients: list[Tensor | None]
    metrics: dict[str, Tensor]
    reconstruction: Reconstruction

    def over(self, count: int) -> "Pull":
        """Gives the same pull, divided by a number."""
        if count == 1:
            return self
        pairs = zip(self.roots, self.gradients, strict=True)
        shares = [torch.full_like(root, 1 / count) if given is None else given / count for root, given in pairs]
        return self._replace(gradients=shares)


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
        """Takes a loss into the mean, and gives whether the mean is below a threshold, on the loss's device."""
        mean = self.loss.lerp(loss.to(self.loss.dtype), 0.05)
        self.loss.copy_(torch.where(loss.isfinite(), mean, self.loss))
        return self.loss < below
