"""Networks that tell real images from made ones, patch by patch."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from codeprior.layers.configured import configured
from codeprior.shapes import Image

DiscriminatorNorm = Literal["batch", "sync", "group", "none", "spectral"]


@configured
class PatchGAN(nn.Module):
    """A fully convolutional discriminator: one score for every overlapping patch of the image.

    4×4 convolutions throughout: `layers` of stride 2, then two of stride 1, the last giving the scores; LeakyReLU 0.2.
    With 3 layers a score sees 70×70 pixels.

    Args:
        channels: Channels after the first convolution; they double with each further one, up to 8 times as many.
        layers: Convolutions of stride 2.
        norm: What stands after all but the first and last convolution. `"batch"`: BatchNorm, as released. `"sync"`:
            BatchNorm over all ranks (GPU only when distributed). `"group"`: GroupNorm, which knows neither batch nor
            ranks. `"none"`: nothing, and those convolutions have a bias.
            `"spectral"`: as `"none"`, with the largest singular value of every convolution held at one.

    Raises:
        ValueError: Unknown `norm`, or counts below 1.

    Note:
        Weights start as N(0, 0.02), norm gains as N(1, 0.02). In training mode BatchNorm makes the scores of an image
        depend on its batch, so real and made images go through in two calls, as released; with `"group"` or `"none"`
        one call on both together gives the same scores.

    Source:
        Isola et al. 2017 (pix2pix); keys `main.<i>` as in taming-transformers and DAEFR. Spectral norm: Miyato et al.
        2018.
    """

    def __init__(self, channels: int = 64, layers: int = 3, *, norm: DiscriminatorNorm = "batch"):
        super().__init__()
        if norm not in ("batch", "sync", "group", "none", "spectral"):
            raise ValueError(f"PatchGAN: norm is 'batch', 'sync', 'group', 'none' or 'spectral', got {norm!r}.")
        bare = norm in ("none", "spectral")
        if channels < 1 or layers < 1:
            raise ValueError(f"PatchGAN: expected at least 1 channel and 1 layer, got {channels} and {layers}.")
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = channels
        for number in range(1, layers + 1):
            wider = channels * min(2**number, 8)
            stride = 2 if number < layers else 1
            parts.append(nn.Conv2d(width, wider, 4, stride, 1, bias=bare))
            if not bare:
                parts.append(_norm(norm, wider))
            parts.append(nn.LeakyReLU(0.2))
            width = wider
        parts.append(nn.Conv2d(width, 1, 4, 1, 1))
        self.main = nn.Sequential(*parts)
        self.main.apply(_start)
        if norm == "spectral":
            for part in self.main:
                if isinstance(part, nn.Conv2d):
                    spectral_norm(part)

    def forward(self, image: Image) -> Float[Tensor, "b 1 h w"]:
        """Gives the scores, one a patch; above 0 for what looks real.

        Args:
            image: `b 3 H W`, signed; at least `3 · 2**layers` pixels a side.
        """
        return self.main(image)


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "sync":
        return nn.SyncBatchNorm(channels)
    return nn.GroupNorm(math.gcd(32, channels), channels)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm)):
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)
