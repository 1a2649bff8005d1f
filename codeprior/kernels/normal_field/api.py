"""The public normal field: checks the shapes, chooses an implementation, and calls it."""

from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels.normal_field.reference import normals


def normal_field(
    keys: Tensor,
    shared: Tensor,
    *,
    sizes: Tensor,
    quantiles: Tensor,
    canvas: tuple[int, int],
    impl: str | None = None,
) -> Tensor:
    """Gives each image a field of normal numbers that follows from its key alone, bit for bit on every device.

    The number at a place of an image comes from 32 bits of SplitMix64 at the key and the place, channel by channel,
    through a piecewise linear table of the normal quantile function.

    Args:
        keys: Mixed keys, `b`, int64.
        shared: Whether the three channels share one field: `b`, bool.
        sizes: Height and width of each image, pixels: `b 2`, int32.
        quantiles: Value and slope of each piece of the upper tail, `2 2048`, float32: 64 pieces to each halving.
        canvas: Height and width of the canvas.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        `b 3` on the canvas, float32; undefined outside each image.

    Raises:
        ValueError: The shapes do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    batch = len(keys)
    if shared.shape != (batch,) or sizes.shape != (batch, 2) or quantiles.shape != (2, 2048):
        raise ValueError(
            f"normal_field: expected shared ({batch},), sizes ({batch}, 2) and quantiles (2, 2048), got "
            f"{tuple(shared.shape)}, {tuple(sizes.shape)} and {tuple(quantiles.shape)}."
        )
    if choose("normal_field", impl, str(keys.device)) == "triton":
        from codeprior.kernels.normal_field.fused import normal_field_triton

        return normal_field_triton(keys, shared, sizes, quantiles, *canvas)
    return normals(keys, shared, sizes, quantiles, canvas)
