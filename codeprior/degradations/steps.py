"""Looking into a chain: the picture after each step, with what was drawn for it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._pixels import pixels_from_planes, planes_from_pixels
from ._run import check_range, sizes_of
from .choose import Maybe, OneOf, Shuffle
from .combine import Chain
from .op import Op, Pixels
from .record import Params, Values, part_of


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
        Step(name, said, torch.from_numpy(planes_from_pixels(after, np.uint8)))
        for name, said, after in _walked(op, pixels, values)
    ]


def _walked(op: Op, image: Pixels, values: Values) -> Iterator[tuple[str, dict[str, Any], Pixels]]:
    inner: list[tuple[Op, Values]]
    if isinstance(op, Chain):
        inner = op._parts(values)
    elif isinstance(op, Shuffle):
        inner = [(op.ops[number], part_of(values, op.names[number])) for number in values["order"]]
    elif isinstance(op, OneOf):
        number = int(values["choice"])
        inner = [(op.ops[number], part_of(values, op.names[number]))]
    elif isinstance(op, Maybe):
        inner = [(op.op, op._own(values))] if values["done"] else []
    else:
        said = {name: value.tolist() for name, value in values.items()}
        yield type(op).__name__, said, op._one(image, values, True)
        return
    for part, own in inner:
        for found in _walked(part, image, own):
            image = found[2]
            yield found
