"""Ops one after the other, two beside each other, and the picture after each step."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codeprior.images import as_png, from_levels
from codeprior.shapes import brief

from ._canvas import Canvas, pixels_from_planes, planes_from_pixels
from ._draws import Draws
from ._fusion import ON_ANY_DEVICE, ON_THE_CPU, FromPlanes, ToPlanes, rewritten
from ._run import Images, Mode, check_range, sizes_of
from .op import Combined, Op, Part, Pixels, Sizes, only_ops
from .record import Params, Values, below, parts_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Chain(Combined):
    """Ops one after the other.

    Values of the parts are recorded under their names: `gaussian_blur.sigma`, `jpeg.quality`, and `jpeg_2.quality` for
    a second one.

    Args:
        ops: What is done, first to last.
    """

    ops: tuple[Op, ...]

    def __post_init__(self) -> None:
        only_ops(self, self.ops)

    def __repr__(self) -> str:
        """Gives the names of the parts; `definition` also gives their ranges."""
        return f"Chain({', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts in a record."""
        return part_names(self.ops)

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {}
        for name, op in zip(self.names, self.ops, strict=True):
            drawn = op._draw(draws.child(), sizes, origin)
            sizes = op._sizes(drawn, sizes)
            values |= below(name, drawn)
        return values

    def _sizes(self, values: Values, sizes: Sizes) -> Sizes:
        for op, own in self._parts(values):
            sizes = op._sizes(own, sizes)
        return sizes

    def _check(self, values: Values, sizes: Sizes) -> None:
        for op, own in self._parts(values):
            op._check(own, sizes)
            sizes = op._sizes(own, sizes)

    def _parts(self, values: Values) -> list[Part]:
        own = parts_of(values)
        return [(op, own.get(name, {})) for name, op in zip(self.names, self.ops, strict=True)]

    def _planes(self, planes: np.ndarray, values: Values, strict: bool, dtype: type) -> np.ndarray:
        steps = [(FromPlanes(), {}), *self._parts(values), (ToPlanes(dtype=dtype), {})]
        for op, own in steps if strict else rewritten(steps, ON_THE_CPU):
            planes = op._one(planes, own, strict)
        return planes

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        steps = self._parts(values)
        for op, own in rewritten(steps, ON_ANY_DEVICE) if mode == "fast" else steps:
            canvas = op._batch(canvas, own, mode)
        return canvas


class Paired(NamedTuple):
    """Two degradations of the same image."""

    first: Images
    second: Images


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two ops that each degrade the same image, with draws of their own.

    Args:
        first: One degradation.
        second: The other.
    """

    first: Op
    second: Op

    def __call__(self, image: Images, *, generator: torch.Generator | None = None, mode: Mode = "fast") -> Paired:
        """Gives both degradations.

        Args:
            image: As for an op.
            generator: As for an op; the first op draws first.
            mode: As for an op.

        Returns:
            first: What the first op makes of the image.
            second: What the second op makes of it.
        """
        return Paired(*(op(image, generator=generator, mode=mode) for op in (self.first, self.second)))


class Step(NamedTuple):
    """What one step of a chain did.

    Attributes:
        name: The op's class.
        values: What was drawn for it, as plain Python values.
        image: The picture after it: `3 h w`, uint8, of the size that it has there.
    """

    name: str
    values: dict[str, Any]
    image: Tensor

    def __repr__(self) -> str:
        """Gives name and shape."""
        return f"Step({self.name}, image {brief(self.image)})"

    def _repr_png_(self) -> bytes:
        return as_png(from_levels(self.image)[None])


def steps(op: Op, image: Tensor, params: Params) -> list[Step]:
    """Gives the picture after each step of a chain; what was not drawn is left out.

    Args:
        op: A chain, or any op.
        image: `3 H W`, unit or uint8, on the CPU.
        params: One row drawn for it.

    Returns:
        The steps, in the order they were done. The last one's image is that of `apply` in mode `strict`.

    Raises:
        ValueError: The record has another number of rows, or was drawn for another size.

    Example:
        >>> import torch
        >>> from codeprior.degradations import preset
        >>> chain, image = preset("codeformer-II"), torch.rand(3, 64, 64)
        >>> drawn = chain.sample(image, torch.Generator().manual_seed(0))
        >>> [step.name for step in steps(chain, image, drawn)]
        ['GaussianBlur', 'Resize', 'GaussianNoise', 'Jpeg', 'ResizeBack', 'Round']
    """
    size = sizes_of("steps", image)
    if image.ndim != 3 or len(params) != 1 or (params.sizes.numpy() != size).any():
        raise ValueError(
            f"steps: expected one image and one row drawn for its size, got {tuple(image.shape)} and {len(params)} "
            f"rows for {params.sizes[:1].tolist()} pixels; slice the record to the image's row."
        )
    check_range("steps", [image])
    values = {name: value[0].numpy() for name, value in params.values.items()}
    op._check({name: value[None] for name, value in values.items()}, size)
    planes = image.detach() if image.dtype == torch.uint8 else image.detach().float()
    pixels = pixels_from_planes(planes.contiguous().numpy())
    return [
        Step(name, drawn, torch.from_numpy(planes_from_pixels(after, np.uint8)))
        for name, drawn, after in _after_each(op, pixels, values)
    ]


def _after_each(op: Op, image: Pixels, values: Values) -> Iterator[tuple[str, dict[str, Any], Pixels]]:
    """Yields name, drawn values and picture of each op that is not made of others."""
    parts = op._parts(values)
    if parts is None:
        drawn = {name: value.tolist() for name, value in values.items()}
        yield type(op).__name__, drawn, op._one(image, values, True)
        return
    for part, own in parts:
        for step in _after_each(part, image, own):
            image = step[2]
            yield step


def part_names(ops: tuple[Op, ...]) -> tuple[str, ...]:
    """Gives each part its class name in lower case, with a number from the second of a kind on."""
    return _names(tuple(type(op).__name__ for op in ops))


@functools.cache
def _names(classes: tuple[str, ...]) -> tuple[str, ...]:
    names: list[str] = []
    for name in classes:
        stem = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        before = sum(name == stem or re.fullmatch(rf"{stem}_\d+", name) is not None for name in names)
        names.append(f"{stem}_{before + 1}" if before else stem)
    return tuple(names)
