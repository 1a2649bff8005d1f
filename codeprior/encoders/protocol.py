"""What an encoder is, to the rooms after it."""

from typing import Protocol, runtime_checkable

from codeprior.shapes import Image, Latent


@runtime_checkable
class Encoder(Protocol):
    """Anything that ends in code space: it has `dim` and `stride`, and gives a latent for an image.

    Attributes:
        dim: Code dimension.
        stride: Pixels a grid step.
    """

    dim: int
    stride: int

    def __call__(self, image: Image) -> Latent:
        """Gives `b d h w` with `h = H / stride` for a signed image `b 3 H W`."""
        ...
