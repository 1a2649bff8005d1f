"""Checks images, chooses how an op is run on them, and gives the results in the form in which the images came."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ._canvas import Canvas
from .record import Params, Values

Images = Tensor | Sequence[Tensor]
"""`3 H W`, `b 3 H W`, or a list of `3 H W` of any sizes; unit or uint8."""

Mode = Literal["fast", "strict", "diff"]


class Runnable(Protocol):
    """What `run` needs of an op."""

    def _check(self, values: Values, sizes: np.ndarray) -> None: ...

    def _planes(self, planes: np.ndarray, values: Values, strict: bool, dtype: type) -> np.ndarray: ...

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas: ...


_SLACK = 1e-3  # what resampling may leave outside [0, 1] without being a wrong range


def sizes_of(who: str, image: Any) -> np.ndarray:
    """Gives height and width of each sample, `b 2`."""
    if isinstance(image, tuple) and all(isinstance(side, int) for side in image):
        if len(image) not in (2, 3) or min(image) < 1:
            raise ValueError(f"{who}: expected a size (H, W) or (b, H, W) of whole pixels, got {image}.")
        count = image[0] if len(image) == 3 else 1
        return np.tile(np.array(image[-2:], np.int64), (count, 1))
    return np.array([sample.shape[-2:] for sample in _samples(who, image)], np.int64).reshape(-1, 2)


def _samples(who: str, image: Any) -> Any:
    """Gives the images one by one, checked for form but not for values."""
    samples = [image] if isinstance(image, Tensor) and image.ndim == 3 else image
    if not isinstance(samples, Tensor) and not all(isinstance(sample, Tensor) for sample in samples):
        raise TypeError(f"{who}: expected a tensor or a list of tensors, got {type(image).__name__}.")
    if isinstance(samples, Tensor) and samples.ndim != 4:
        raise ValueError(f"{who}: expected 3 H W or b 3 H W, got a tensor of shape {tuple(samples.shape)}.")
    for number, sample in enumerate(samples):
        if sample.dtype != torch.uint8 and not sample.is_floating_point():
            raise TypeError(f"{who}: sample {number}: expected floats in [0, 1] or uint8, got {sample.dtype}.")
        if sample.ndim != 3 or sample.shape[0] != 3 or 0 in sample.shape:
            raise ValueError(
                f"{who}: sample {number}: expected 3 H W with RGB channels and one pixel or more, "
                f"got {tuple(sample.shape)}; repeat a grey image three times."
            )
    if len({(sample.dtype, sample.device) for sample in samples}) > 1:
        kinds = ", ".join(sorted({f"{sample.dtype} on {sample.device}" for sample in samples}))
        raise ValueError(f"{who}: expected images of one type on one device, got {kinds}; convert them first.")
    return samples


def check_range(who: str, samples: Sequence[Tensor]) -> None:
    """Raises an error where a floating-point sample is not in [0, 1]."""
    for number, sample in enumerate(samples):
        if not sample.is_floating_point():
            continue
        low, high = (value.item() for value in sample.detach().aminmax())
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            raise ValueError(
                f"{who}: sample {number}: expected unit floats in [0, 1], got values from {low:.4g} to {high:.4g}; "
                "use to_unit for signed images, or give 8-bit levels as uint8."
            )


def run(
    op: Runnable, image: Images, params: Params, *, mode: Mode, dtype: torch.dtype | None, impl: str | None
) -> Images:
    """Checks everything, then applies the values."""
    who = type(op).__name__
    if mode not in ("fast", "strict", "diff"):
        raise ValueError(f"{who}: expected mode fast, strict or diff, got {mode!r}.")
    if impl not in (None, "cpu", "torch"):
        raise ValueError(f"{who}: expected impl cpu or torch, got {impl!r}.")
    samples = _samples(who, image)
    sizes = sizes_of(who, image)
    _check_record(who, params, sizes)
    on_cpu = all(sample.device.type == "cpu" for sample in samples)
    if on_cpu:
        check_range(who, samples)
    values = {name: value.numpy() for name, value in params.values.items()}
    op._check(values, sizes)
    if mode != "diff" and any(sample.requires_grad for sample in samples):
        raise ValueError(f"{who}: mode {mode!r} has no gradients; use mode='diff' or image.detach().")
    if impl is None:
        impl = "cpu" if on_cpu and mode != "diff" else "torch"
    if impl == "cpu" and (mode == "diff" or not on_cpu):
        raise ValueError(f"{who}: impl 'cpu' runs modes fast and strict on CPU tensors; use impl='torch'.")
    kind = dtype or (samples[0].dtype if len(samples) else torch.uint8)
    if impl == "cpu":
        try:
            results = _run_cpu(op, samples, values, strict=mode == "strict", dtype=kind)
        except ImportError as error:
            raise ImportError(
                f"{str(error).rstrip('.')}; apply(…, impl='torch') does without.", name=error.name
            ) from error
    else:
        results = _run_torch(op, samples, sizes, values, mode, kind)
    if isinstance(image, Tensor) and image.ndim == 3:
        return results[0]
    if isinstance(results, Tensor) or not isinstance(image, Tensor):
        return results if isinstance(image, Tensor) else list(results)
    return torch.stack(results) if len({result.shape for result in results}) == 1 else results


def _check_record(who: str, params: Params, sizes: np.ndarray) -> None:
    if len(params) != len(sizes):
        raise ValueError(
            f"{who}: expected values for {len(sizes)} samples, got {len(params)}; slice the record to match."
        )
    drawn = params.sizes.numpy()
    for number in np.flatnonzero((drawn != sizes).any(1))[:1]:
        (ours, theirs) = (f"{h}×{w}" for h, w in (sizes[number], drawn[number]))
        raise ValueError(f"{who}: sample {number}: the values were drawn for {theirs} pixels, the image has {ours}.")


def _run_cpu(op: Runnable, samples: Sequence[Tensor], values, *, strict: bool, dtype: torch.dtype) -> list[Tensor]:
    results = []
    inside = np.uint8 if dtype == torch.uint8 else np.float32
    for number, sample in enumerate(samples):
        planes = sample.detach()
        planes = planes if planes.dtype in (torch.uint8, torch.float32) else planes.float()
        row = {name: value[number] for name, value in values.items()}
        result = torch.from_numpy(op._planes(planes.contiguous().numpy(), row, strict, inside))
        results.append(result.to(dtype))
    return results


def _run_torch(op: Runnable, samples: Sequence[Tensor], sizes: np.ndarray, values, mode: Mode, dtype: torch.dtype):
    if not len(samples):
        return list(samples)
    if isinstance(samples, Tensor):
        pixels = samples
    else:
        height, width = (int(side) for side in sizes.max(0))
        pixels = torch.stack([
            F.pad(sample, (0, width - sample.shape[2], 0, height - sample.shape[1])) for sample in samples
        ])  # fmt: skip
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    with torch.set_grad_enabled(mode == "diff" and torch.is_grad_enabled()):
        canvas = op._batch(Canvas(pixels, sizes), values, mode)
    result = canvas.pixels
    if dtype == torch.uint8:
        result = (result.clamp(0, 1) * 255).round()
    result = result.to(dtype)
    if canvas.uniform:
        return result
    return [image[:, :height, :width] for image, (height, width) in zip(result, canvas.sizes, strict=True)]
