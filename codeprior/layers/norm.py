"""The one normalisation of the convolutional nets: GroupNorm over 32 groups."""

from torch import nn


def group_norm(channels: int, *, groups: int = 32) -> nn.GroupNorm:
    """Gives a GroupNorm with the family's epsilon.

    Args:
        channels: Channels of the feature.
        groups: How many groups they fall into.

    Raises:
        ValueError: `channels` does not divide into `groups`.

    Source: Esser et al. 2021 (VQGAN), whose decoders and encoders use 32 groups and epsilon 1e-6 throughout.
    """
    if channels % groups:
        raise ValueError(
            f"group_norm: {channels} channels do not divide into {groups} groups; set groups to a divisor."
        )
    return nn.GroupNorm(groups, channels, eps=1e-6)
