"""Taps: places of an encoder or a decoder where a function of the caller gets the feature and may change it.

A place is a stride and a residual block of the level of that stride. With taps a model can read an encoder's features,
or change a decoder's, without a subclass.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from codeprior.layers.attention import AttentionBlock
from codeprior.layers.residual import ResidualBlock

MIDDLE = 0
"""The stride of a tap in the two blocks between the deepest level and code space."""


class Tap(NamedTuple):
    """A place of an encoder or a decoder.

    Attributes:
        stride: Pixels a grid step of the level; `MIDDLE` for the blocks between the deepest level and code space.
        block: After which residual block of the level, and its attention where it has some; negative numbers count
            from the level's end. In the middle the attention stands between the two blocks: 0 is before it.
    """

    stride: int
    block: int = -1


Tapped = Callable[[Tensor], Tensor]
"""Feature in, feature of the same shape out."""

Taps = Mapping[Tap, Tapped] | Mapping[int, Tapped]
"""What is done with the feature at each place; a bare stride is the end of its level."""


class Recorder:
    """Keeps the features at some places, for example of an encoder.

    Args:
        places: Where.

    Attributes:
        features: The feature of each place after the forward pass.

    Example:
        ```python
        recorder = Recorder([Tap(4), Tap(8)])
        latent = encoder(image, taps=recorder.taps)
        recorder.features[Tap(4)].shape  # b c H/4 W/4
        ```
    """

    def __init__(self, places: Sequence[Tap]):
        self.features: dict[Tap, Tensor] = {}
        self.taps: dict[Tap, Tapped] = {place: self._keep(place) for place in places}

    def _keep(self, place: Tap) -> Tapped:
        def keep(feature: Tensor) -> Tensor:
            self.features[place] = feature
            return feature

        return keep


def placed_taps(
    who: str, taps: Taps | None, *, strides: Sequence[int], blocks: int, middle: bool = False
) -> Mapping[int, Mapping[int, Tapped]]:
    """Gives the callables of each stride by the number of their block.

    Args:
        who: The module that asks, for the error.
        taps: As its caller gave them.
        strides: Of its levels.
        blocks: Residual blocks a level.
        middle: Whether it has blocks between the deepest level and code space.

    Raises:
        ValueError: A place is not there, or is named twice.
    """
    placed: dict[int, dict[int, Tapped]] = {}
    for key, tapped in (taps or {}).items():
        place = key if isinstance(key, Tap) else Tap(int(key))
        if place.stride not in strides and not (middle and place.stride == MIDDLE):
            also = " and at MIDDLE" if middle else ""
            raise ValueError(
                f"{who}: no feature has stride {place.stride}; taps go at strides {sorted(strides)}{also}."
            )
        count = 2 if place.stride == MIDDLE else blocks
        if not -count <= place.block < count:
            raise ValueError(f"{who}: a tap asks for block {place.block} of a level, which has {count} blocks.")
        level = placed.setdefault(place.stride, {})
        if level.setdefault(place.block % count, tapped) is not tapped:
            raise ValueError(f"{who}: two taps at stride {place.stride}, block {place.block % count}.")
    return placed


def level_steps(
    before: int, width: int, *, blocks: int, heads: int, groups: int, guided: bool = False
) -> nn.Sequential:
    """Gives the residual blocks of a level, each followed by attention where `heads` is not zero.

    Args:
        before: Channels that come in.
        width: Channels that go out.
        blocks: Residual blocks.
        heads: Heads of the attention; 0 for none.
        groups: Groups of every normalisation.
        guided: Whether the attention is asked by a guide.
    """
    steps: list[nn.Module] = []
    for index in range(blocks):
        steps.append(ResidualBlock(width if index else before, width, groups=groups))
        if heads:
            steps.append(AttentionBlock(width, heads=heads, guided=guided, groups=groups))
    return nn.Sequential(*steps)


def middle_steps(width: int, *, heads: int, groups: int, guided: bool = False) -> nn.Sequential:
    """Gives the blocks between the deepest level and code space: residual, attention, residual.

    Args:
        width: Channels.
        heads: Heads of the attention.
        groups: Groups of every normalisation.
        guided: Whether the attention is asked by a guide.
    """
    return nn.Sequential(
        ResidualBlock(width, groups=groups),
        AttentionBlock(width, heads=heads, guided=guided, groups=groups),
        ResidualBlock(width, groups=groups),
    )


def walk_middle(
    steps: Iterable[nn.Module], feature: Tensor, *, taps: Mapping[int, Tapped] | None, guide: Tensor | None = None
) -> Tensor:
    """Gives the feature after the blocks of the middle, with taps on the way.

    Args:
        steps: As `middle_steps` gives them; none leave the feature as it is.
        feature: `b c h w`.
        taps: By the number of the block.
        guide: What asks in the attention, of the feature's shape.
    """
    for index, step in enumerate(steps):
        feature = step(feature, guide) if isinstance(step, AttentionBlock) else step(feature)
        if taps and index != 1 and index // 2 in taps:
            feature = _tapped(taps[index // 2], feature)
    return feature


def walk_level(
    steps: Iterable[nn.Module],
    feature: Tensor,
    *,
    each: int,
    taps: Mapping[int, Tapped] | None,
    guide: Tensor | None = None,
) -> Tensor:
    """Gives the feature after a level's blocks, with taps on the way.

    Args:
        steps: As `level_steps` gives them.
        feature: `b c h w`.
        each: Modules a block: 2 with attention, else 1.
        taps: By the number of the block.
        guide: What asks in every attention of the level, of the feature's shape.
    """
    for index, step in enumerate(steps):
        feature = step(feature, guide) if isinstance(step, AttentionBlock) else step(feature)
        block, rest = divmod(index + 1, each)
        if taps and not rest and block - 1 in taps:
            feature = _tapped(taps[block - 1], feature)
    return feature


def _tapped(tap: Tapped, feature: Tensor) -> Tensor:
    given = tap(feature)
    if not isinstance(given, Tensor) or given.shape != feature.shape:
        what = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(
            f"a tap was given a feature of shape {tuple(feature.shape)} and returned {what}; return a feature of the "
            "same shape, also where it is only read."
        )
    return given
