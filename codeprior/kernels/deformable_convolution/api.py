"""The public deformable convolution: checks the shapes, chooses an implementation, and calls it."""

import torch
from jaxtyping import Float
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels._exporting import exporting
from codeprior.kernels._layout import why_unfit_for_cpp
from codeprior.kernels.deformable_convolution import compiled
from codeprior.kernels.deformable_convolution.reference import TAPS, deformable_convolution_reference

_SMALLEST = 16 * 16  # places below which bringing the kernels into order costs more than it saves
_FEWEST = 2**22  # multiplications below which compiling never pays


def deformable_convolution(
    feature: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c 3 3"],
    bias: Float[Tensor, " o"] | None = None,
    *,
    offsets: Float[Tensor, "b offsets h w"],
    mask: Float[Tensor, "b masks h w"],
    impl: str | None = None,
) -> Float[Tensor, "b o h w"]:
    """Gives a modulated deformable 3×3 convolution, stride 1, padded by one place.

    Args:
        feature: `b c h w`.
        weight: `o c 3 3`.
        bias: `(o,)`.
        offsets: `b 2·9·g h w` of `g` groups of channels, in places of the grid: for group `i` and tap `j` of the kernel
            in row-major order, channel `2 (9 i + j)` is the shift along rows and the next one that along columns.
        mask: `b 9·g h w`, what each tap's value is multiplied by.
        impl: Implementation by name; None chooses (see `explain`). `torchvision` gives gradients, `compiled` does not;
            while a graph is exported `reference` runs, because no export format knows the two others.

    Returns:
        `b o h w`. The compiled implementation gives it as channels_last.

    Raises:
        ValueError: The shapes do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.

    Source: Zhu et al. 2019 (Deformable ConvNets v2); the order of the channels is torchvision's. Places between four
        neighbours are read bilinearly, and outside the feature there are zeros. All ways agree to a few units in the
        last place of float32.
    """
    height, width = feature.shape[-2:]
    groups = mask.shape[1] // TAPS
    fits = groups > 0 and feature.shape[1] % groups == 0 and weight.shape[1:] == (feature.shape[1], 3, 3)
    if not fits or mask.shape[1:] != (9 * groups, height, width) or offsets.shape[1:] != (18 * groups, height, width):
        raise ValueError(
            f"deformable_convolution: expected a feature (b, c, h, w), a weight (o, c, 3, 3), offsets (b, 18 g, h, w) "
            f"and a mask (b, 9 g, h, w) with c a multiple of g, got {tuple(feature.shape)}, {tuple(weight.shape)}, "
            f"{tuple(offsets.shape)} and {tuple(mask.shape)}."
        )
    tensors = [part for part in (feature, weight, bias, offsets, mask) if part is not None]
    few = height * width < _SMALLEST or height * width * weight.numel() < _FEWEST
    slow = "on so small a grid it is not faster" if few else None
    chosen = choose("deformable_convolution", impl, str(feature.device), unfit=_why_unfit(tensors), slow=slow)
    if chosen == "compiled":
        return deformable_convolution_op(feature, weight, bias, offsets, mask)
    if chosen == "torchvision":
        from torchvision.ops import deform_conv2d

        return deform_conv2d(feature, offsets, weight, bias, padding=(1, 1), mask=mask)
    return deformable_convolution_reference(feature, weight, bias, offsets, mask)


@torch.library.custom_op("codeprior::deformable_convolution", mutates_args=())
def deformable_convolution_op(
    feature: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor, mask: Tensor
) -> Tensor:
    """The compiled deformable convolution; without gradients."""
    return compiled.convolve(feature, weight, bias, offsets, mask)


@deformable_convolution_op.register_fake
def _(feature, weight, bias, offsets, mask) -> Tensor:
    batch, _, height, width = feature.shape
    return feature.new_empty(batch, height, width, len(weight)).permute(0, 3, 1, 2)


def _why_unfit(tensors: list[Tensor]) -> dict[str, str]:
    reasons = why_unfit_for_cpp(tensors)
    return reasons | {"torchvision": reasons["compiled"]} if exporting() else reasons
