"""Fidelity taps: features of the degraded picture change a prior's decoder, by a weight in [0, 1].

A prior draws what is likely; the degraded picture shows what was there. The taps learn to scale and to shift the
decoder's features by the encoder's. At weight 0 the prior alone decides; at 1 the picture counts as in training.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.layers import Recorder, ResidualBlock, Tap, Tapped, configured, convolved, group_norm


class FeatureModulation(nn.Module):
    """Scales and shifts a feature by what a guide says: `x + weight · (scale · norm(x) + shift)`.

    A small convolutional network computes scale and shift from feature and guide; its last layer begins at zero, so a
    new block changes nothing.

    Args:
        channels: Of the feature.
        guide_channels: Of the guide.
        hidden: Channels between the two convolutions.
        groups: Groups of the normalisation of the feature.

    Source: Wang et al. 2018 (SFT, spatial feature transform), with the weight of Zhou et al. 2022 (CodeFormer),
        section 3.4. Deliberate differences: the feature is normalised before it is scaled, and one hidden layer serves
        scale and shift.
    """

    def __init__(self, channels: int, guide_channels: int, *, hidden: int = 32, groups: int = 8):
        super().__init__()
        self.channels = (channels, guide_channels)
        self.norm = group_norm(channels, groups=groups)
        self.read = nn.Conv2d(channels + guide_channels, hidden, 3, padding=1)
        self.write = nn.Conv2d(hidden, 2 * channels, 3, padding=1)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, feature: Float[Tensor, "b c h w"], guide: Float[Tensor, "b c2 h w"], weight: float | Tensor = 1.0
    ) -> Float[Tensor, "b c h w"]:
        """Gives the modulated feature.

        Args:
            feature: What is changed.
            guide: What it is changed by, on the same grid.
            weight: In [0, 1]; a number, or one for each sample as `b 1 1 1`.

        Raises:
            ValueError: The channels are not those of the module, or the two differ in their grid or batch.
        """
        _check_guide("FeatureModulation", feature, guide, channels=self.channels)
        normed = self.norm(feature)
        hidden = F.silu(convolved(self.read, torch.cat((normed, guide), 1)))
        scale, shift = convolved(self.write, hidden).chunk(2, 1)
        return feature + weight * (scale * normed + shift)


class ControllableTransform(nn.Module):
    """Scales and shifts a feature by what a guide says: `x + weight · (x · scale + shift)`.

    A residual block joins feature and guide. From its result two convolutions with a leaky rectifier (slope 0.2)
    between them compute the scale, and two others the shift.

    Args:
        channels: Of the feature.
        guide_channels: Of the guide.
        groups: Groups of the normalisations in the residual block.

    Raises:
        ValueError: `channels`, or `channels` and `guide_channels` together, do not divide into `groups`.

    Source: Zhou et al. 2022 (CodeFormer), section 3.4, the controllable feature transformation. It starts from random
        weights, so a fresh one changes the feature; `FeatureModulation` does not.
    """

    def __init__(self, channels: int, guide_channels: int, *, groups: int = 32):
        super().__init__()
        self.channels = (channels, guide_channels)
        self.join = ResidualBlock(guide_channels + channels, channels, groups=groups)
        self.scale = _Read(channels)
        self.shift = _Read(channels)

    def forward(
        self, feature: Float[Tensor, "b c h w"], guide: Float[Tensor, "b c2 h w"], weight: float | Tensor = 1.0
    ) -> Float[Tensor, "b c h w"]:
        """Gives the transformed feature.

        Args:
            feature: What is changed.
            guide: What it is changed by, on the same grid.
            weight: In [0, 1], and up to 1.3 in the paper's training; a number, or one for each sample as `b 1 1 1`.

        Raises:
            ValueError: The channels are not those of the module, or the two differ in their grid or batch.
        """
        _check_guide("ControllableTransform", feature, guide, channels=self.channels)
        joined = self.join(torch.cat((guide, feature), 1))
        return feature + weight * (feature * self.scale(joined) + self.shift(joined))


def _check_guide(who: str, feature: Tensor, guide: Tensor, *, channels: tuple[int, int]) -> None:
    both = (feature, guide)
    alike = all(part.ndim == 4 for part in both) and feature.shape[0] == guide.shape[0]
    if not alike or feature.shape[2:] != guide.shape[2:] or tuple(part.shape[1] for part in both) != channels:
        raise ValueError(
            f"{who}: expected a feature b {channels[0]} h w and a guide b {channels[1]} h w on one grid, got "
            f"{tuple(feature.shape)} and {tuple(guide.shape)}."
        )


class _Read(nn.Sequential):
    def __init__(self, channels: int):
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        super().__init__(first, nn.LeakyReLU(0.2), second)

    def forward(self, input: Tensor) -> Tensor:
        first, rectified, second = self
        return convolved(cast(nn.Conv2d, second), rectified(convolved(cast(nn.Conv2d, first), input)))


@configured
class FidelityTaps(nn.Module):
    """Modulates a decoder at several strides by an encoder's features of the same strides.

    Args:
        strides: Of both, pixels a grid step.
        channels: Of the decoder's feature at each stride.
        guide_channels: Of the encoder's feature at each stride.
        block: After which residual block of the decoder's level; later blocks of the level can work on the result.
        hidden: Channels inside each modulation; a transform has as many as its feature.
        groups: Groups of the normalisations.
        kind: What changes the features: `"modulation"` is `FeatureModulation`, `"transform"` is CodeFormer's
            `ControllableTransform`.

    Raises:
        ValueError: The lists have different lengths, or the kind is another.

    Example:
        ```python
        strides = list(encoder.tap_channels)
        taps = FidelityTaps(strides, [decoder.tap_channels[s] for s in strides], list(encoder.tap_channels.values()))
        recorder = taps.recorder()
        latent = encoder(degraded, taps=recorder.taps)
        image = decoder(values, taps=taps(recorder, weight=0.5))
        ```
    """

    def __init__(
        self,
        strides: Sequence[int],
        channels: Sequence[int],
        guide_channels: Sequence[int],
        *,
        block: int = 0,
        hidden: int = 32,
        groups: int = 8,
        kind: Literal["modulation", "transform"] = "modulation",
    ):
        super().__init__()
        if kind not in ("modulation", "transform"):
            raise ValueError(f"FidelityTaps: expected kind 'modulation' or 'transform', got {kind!r}.")
        if not len(strides) == len(channels) == len(guide_channels):
            raise ValueError(
                f"FidelityTaps: expected as many channels as strides, got {len(strides)} strides, {len(channels)} and "
                f"{len(guide_channels)} channels."
            )
        self.strides, self.block = list(strides), block
        self.modulations = nn.ModuleList(
            FeatureModulation(mine, theirs, hidden=hidden, groups=groups)
            if kind == "modulation"
            else ControllableTransform(mine, theirs, groups=groups)
            for mine, theirs in zip(channels, guide_channels, strict=True)
        )

    def recorder(self) -> Recorder:
        """Gives a recorder of the encoder's features at the end of each level; pass its `taps` to the encoder."""
        return Recorder([Tap(stride) for stride in self.strides])

    def forward(self, recorder: Recorder, *, weight: float | Tensor = 1.0) -> Mapping[Tap, Tapped]:
        """Gives the taps for a decoder.

        Args:
            recorder: That has been through the encoder.
            weight: In [0, 1]; a number, or one for each sample as `b` or `b 1 1 1`.
        """
        if isinstance(weight, Tensor) and weight.ndim == 1:
            weight = rearrange(weight, "b -> b 1 1 1")

        def tapped(stride: int, modulation: nn.Module) -> Tapped:
            return lambda feature: modulation(feature, recorder.features[Tap(stride)], weight)

        return {
            Tap(stride, self.block): tapped(stride, modulation)
            for stride, modulation in zip(self.strides, self.modulations, strict=True)
        }
