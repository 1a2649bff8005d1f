"""What the rooms around it need of a decoder."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import nn

from codeprior.layers import Taps
from codeprior.layers.module import AnyModule
from codeprior.shapes import Image, Latent


@runtime_checkable
class Decoder(AnyModule, Protocol):
    """A module that begins in code space: it has `dim` and `stride`, and gives an image for values.

    Attributes:
        dim: Code dimension.
        stride: Pixels a grid step.
        tap_channels: Channels of the feature at each stride that taps are given.
        last_layer: The convolution that gives the image; adversarial weights are balanced on its gradients.
    """

    @property
    def dim(self) -> int: ...

    @property
    def stride(self) -> int: ...

    @property
    def tap_channels(self) -> Mapping[int, int]: ...

    @property
    def last_layer(self) -> nn.Conv2d: ...

    def __call__(self, values: Latent, taps: Taps | None = None) -> Image:
        """Gives a signed image `b 3 H W`, not clamped, with `H = h · stride`, for values `b d h w`."""
        ...
