"""What the rooms after it need of an encoder."""

from typing import Protocol, runtime_checkable

from codeprior.layers.module import AnyModule
from codeprior.shapes import Image, Latent


@runtime_checkable
class Encoder(AnyModule, Protocol):
    """A module that ends in code space: it has `dim` and `stride`, and gives a latent for an image.

    Attributes:
        dim: Code dimension.
        stride: Pixels a grid step.
    """

    @property
    def dim(self) -> int: ...

    @property
    def stride(self) -> int: ...

    def __call__(self, image: Image) -> Latent:
        """Gives `b d h w` with `h = H / stride` for a signed image `b 3 H W`."""
        ...
