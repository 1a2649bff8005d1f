"""What the rooms around it need of a codebook; `Codebook`, the table that learns by gradient, is one of them."""

from typing import Any, Protocol, runtime_checkable

from codeprior.codebooks.codebook import Quantized
from codeprior.layers.module import AnyModule
from codeprior.shapes import Latent


@runtime_checkable
class Quantizer(AnyModule, Protocol):
    """A module that exchanges a latent for codes: every codebook is one.

    Attributes:
        dim: Code dimension.
        size: How many codes there are.
    """

    @property
    def dim(self) -> int: ...

    @property
    def size(self) -> int: ...

    def lookup(self, indices: Any) -> Latent:
        """Gives the codes `b d h w` of indices `b h w`; of several tables `b m h w`."""
        ...

    def __call__(self, latent: Latent) -> Quantized:
        """Gives values with a gradient to the latent, codes and indices for a latent `b d h w`."""
        ...
