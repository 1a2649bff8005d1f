"""The public small convolution: checks the shapes, chooses an implementation, and calls it."""

import torch
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels._layout import why_unfit_for_cpp
from codeprior.kernels.prelu_convolution import compiled
from codeprior.kernels.prelu_convolution.reference import prelu_convolution_reference

_FEWEST = 2**24  # multiplications below which compiling never pays


def prelu_convolution(
    feature: Tensor,
    weight: Tensor,
    bias: Tensor,
    slope: Tensor | None = None,
    *,
    pool: int = 0,
    impl: str | None = None,
) -> Tensor:
    """Gives a convolution of few channels with what follows it in a face detector: `max_pool(prelu(conv(feature)))`.

    Args:
        feature: `b c h w`.
        weight: `o c k k`; stride 1, no padding.
        bias: `(o,)`.
        slope: `(o,)`, what the PReLU multiplies negative values by; None for no PReLU.
        pool: Side of the maximum's window, whose stride is 2, 2 or 3 places; windows that reach beyond the edge count
            too. 0 for no maximum.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        `b o H W`, with `H = h − k + 1` before the maximum. The compiled implementation gives it as channels_last, with
        each place at a multiple of 16 floats.

    Raises:
        ValueError: The shapes do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    if feature.ndim != 4 or weight.ndim != 4 or weight.shape[1] != feature.shape[1] or weight.shape[2:] != (
        kernel := weight.shape[-1], kernel,
    ):  # fmt: skip
        raise ValueError(
            f"prelu_convolution: expected a feature (b, c, h, w) and a weight (o, c, k, k), got {tuple(feature.shape)} "
            f"and {tuple(weight.shape)}."
        )
    if min(feature.shape[2:]) < kernel:
        raise ValueError(
            f"prelu_convolution: a feature of {feature.shape[2]}×{feature.shape[3]} places is smaller than the kernel "
            f"of {kernel}×{kernel}."
        )
    for name, part in (("bias", bias), ("slope", slope)):
        if part is not None and part.shape != weight.shape[:1]:
            raise ValueError(f"prelu_convolution: expected a {name} ({len(weight)},), got {tuple(part.shape)}.")
    if pool not in (0, 2, 3):
        raise ValueError(f"prelu_convolution: expected a maximum over 0, 2 or 3 places a side, got {pool}.")
    tensors = [part for part in (feature, weight, bias, slope) if part is not None]
    small = feature.numel() * weight.numel() < _FEWEST
    unfit = why_unfit_for_cpp(tensors)
    if choose("prelu_convolution", impl, str(feature.device), unfit=unfit, small=small) == "reference":
        return prelu_convolution_reference(feature, weight, bias, slope, pool)
    # a detector calls it forty times a photograph, and a call through a registered op takes twice as long to start
    run = prelu_convolution_op if torch.compiler.is_compiling() else compiled.convolve
    return run(feature, weight, bias, slope, pool)


@torch.library.custom_op("codeprior::prelu_convolution", mutates_args=())
def prelu_convolution_op(feature: Tensor, weight: Tensor, bias: Tensor, slope: Tensor | None, pool: int) -> Tensor:
    """The compiled convolution; without gradients."""
    return compiled.convolve(feature, weight, bias, slope, pool)


@prelu_convolution_op.register_fake
def _(feature, weight, bias, slope, pool) -> Tensor:
    height, width = (compiled.after_pool(side - weight.shape[-1] + 1, pool) for side in feature.shape[2:])
    together = torch.empty(len(feature), height, width, len(weight) + -len(weight) % 16, dtype=feature.dtype)
    return together.permute(0, 3, 1, 2)[:, : len(weight)]
