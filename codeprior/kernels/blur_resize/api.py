"""The public blur with resizing: checks the shapes, chooses an implementation, and calls it."""

from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels.blur_resize.reference import correlated, resized


def blur_resize(
    pixels: Tensor,
    kernels: Tensor,
    *,
    sizes: Tensor,
    targets: Tensor,
    canvas: tuple[int, int],
    impl: str | None = None,
) -> Tensor:
    """Gives images, each correlated with its own kernel and then resized bilinearly without antialiasing.

    The border is reflect-101, repeated where the kernel is larger than the image. Coordinates are in double precision
    with half-pixel centres; a blurred pixel is rounded to single precision, as `cv2.filter2D` and `cv2.resize` do.

    Args:
        pixels: `b 3 H W`, floating-point: each image in the upper left corner of its canvas; the rest is not read.
        kernels: `b k k`, float32, k odd; smaller kernels lie in the middle, with zeros around them.
        sizes: Height and width of each image, pixels: `b 2`, int32, on the device of the pixels.
        targets: Height and width of each result: `b 2`, int32.
        canvas: Height and width of the canvas of the results, no less than the largest target.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        `b 3` on the new canvas, float32, without a gradient; undefined outside each image.

    Raises:
        ValueError: The shapes do not fit, or the kernels have an even side.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    batch = len(pixels)
    if pixels.ndim != 4 or pixels.shape[1] != 3 or sizes.shape != (batch, 2) or targets.shape != (batch, 2):
        raise ValueError(
            f"blur_resize: expected pixels (b, 3, H, W), sizes (b, 2) and targets (b, 2), got {tuple(pixels.shape)}, "
            f"{tuple(sizes.shape)} and {tuple(targets.shape)}."
        )
    if kernels.ndim != 3 or len(kernels) != batch or kernels.shape[1] != kernels.shape[2] or kernels.shape[1] % 2 == 0:
        raise ValueError(f"blur_resize: expected kernels ({batch}, k, k) with k odd, got {tuple(kernels.shape)}.")
    pixels, kernels = pixels.detach(), kernels.detach()
    if choose("blur_resize", impl, str(pixels.device)) == "triton":
        from codeprior.kernels.blur_resize.fused import blur_resize_triton

        return blur_resize_triton(pixels, kernels, sizes, targets, *canvas)
    return resized(correlated(pixels, kernels, sizes), sizes, targets, canvas)
