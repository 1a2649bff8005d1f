"""Figures for notebooks and reports: how a codebook is used, and what a degradation did; they need matplotlib."""

from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from codeprior.codebooks import perplexity, usage
from codeprior.degradations import Op, Step, steps
from codeprior.extras import needed
from codeprior.images import to_levels

__all__ = ["plot_trace", "plot_usage"]

_SIDE = 2.4  # inches, of a picture
_HIDDEN = ("key", "kind", "interpolation")  # nobody reads a key of 64 bits


def plot_usage(indices: Int[Tensor, "..."], size: int) -> Any:
    """Gives a figure of how often each code was chosen: the codes from most to least used, on a logarithmic axis.

    Args:
        indices: Integers in [0, size), any shape; those of many images say more than those of one.
        size: Count of codes in the table.

    Returns:
        A matplotlib figure. Its title says how many codes were chosen at all, and their perplexity.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There are no indices, or one is not in [0, size).
    """
    if not indices.numel() or int(indices.min()) < 0 or int(indices.max()) >= size:
        raise ValueError(f"plot_usage: expected indices in [0, {size}), got {_range(indices)}.")
    counts = usage(indices.detach().cpu(), size)
    ordered = counts.sort(descending=True).values
    used = int((counts > 0).sum())
    figure, axes = _pyplot("plot_usage").subplots(figsize=(6, 3), layout="constrained")
    axes.fill_between(range(size), ordered.numpy(), step="mid", linewidth=0)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xlabel("codes, most used first")
    axes.set_ylabel("times chosen")
    axes.set_title(f"{used} of {size} codes in use ({used / size:.0%}), perplexity {float(perplexity(counts)):.1f}")
    return _closed(figure)


def plot_trace(
    op: Op, image: Float[Tensor, "3 H W"] | UInt8[Tensor, "3 H W"], *, generator: torch.Generator, columns: int = 4
) -> Any:
    """Gives a figure of a picture before a degradation and after each of its steps, with what was drawn for each.

    Args:
        op: A chain, such as a preset, or any op.
        image: `3 H W`, unit or uint8.
        generator: Where the random numbers come from.
        columns: Pictures beside one another.

    Returns:
        A matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: The image is not one image, `3 H W`.
    """
    done = steps(op, image, op.sample(image, generator))
    first = to_levels(image) if image.is_floating_point() else image
    cells = [("before", first), *((_told(step), step.image) for step in done)]
    rows = -(-len(cells) // columns)
    columns = min(columns, len(cells))
    figure, axes = _pyplot("plot_trace").subplots(
        rows, columns, figsize=(_SIDE * columns, (_SIDE + 0.6) * rows), squeeze=False, layout="constrained"
    )
    for place in axes.flat:
        place.set_axis_off()
    for place, (text, planes) in zip(axes.flat, cells, strict=False):
        place.imshow(planes.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
        place.set_title(text, fontsize=8)
    return _closed(figure)


def _pyplot(who: str) -> Any:
    # importing pyplot is what makes a notebook show figures
    return needed("matplotlib.pyplot", who=who)


def _closed(figure: Any) -> Any:
    """Takes a figure from pyplot's list, so that a notebook shows it once and no list of open figures grows."""
    needed("matplotlib.pyplot", who="plots").close(figure)
    return figure


def _range(indices: Tensor) -> str:
    return f"{int(indices.min())} to {int(indices.max())}" if indices.numel() else "none"


def _told(step: Step) -> str:
    height, width = step.image.shape[1:]
    values = [f"{name} {_short(value)}" for name, value in step.values.items() if name not in _HIDDEN]
    return "\n".join([f"{step.name} ({width}×{height})", ", ".join(values)[:60]])


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
