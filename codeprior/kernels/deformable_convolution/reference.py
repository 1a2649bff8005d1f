"""The meaning of the deformable convolution: nine bilinear samplings, and a product each."""

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

TAPS = 9  # of a 3×3 kernel


def deformable_convolution_reference(
    feature: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor, mask: Tensor
) -> Tensor:
    """Samples the feature once for each tap, and adds up nine products.

    Args:
        feature: `b c h w`.
        weight: `o c 3 3`.
        bias: `(o,)`.
        offsets: `b 2·9·g h w`.
        mask: `b 9·g h w`.
    """
    height, width = feature.shape[-2:]
    groups = mask.shape[1] // TAPS
    rows = torch.arange(height, dtype=feature.dtype, device=feature.device)
    columns = torch.arange(width, dtype=feature.dtype, device=feature.device)
    moved = rearrange(offsets, "b (g t two) h w -> t two (b g) h w", g=groups, two=2)
    shares = rearrange(mask, "b (g t) h w -> t (b g) 1 h w", g=groups)
    parts = rearrange(feature, "b (g c) h w -> (b g) c h w", g=groups)
    answer: Tensor | None = None
    for tap in range(TAPS):
        down, right = tap // 3 - 1, tap % 3 - 1
        y = moved[tap, 0] + repeat(rows + down, "h -> h 1")
        x = moved[tap, 1] + (columns + right)
        # from places of the grid to [-1, 1] over its outer edges, which also has a meaning where a side is 1
        grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
        read = F.grid_sample(parts, grid, mode="bilinear", padding_mode="zeros", align_corners=False) * shares[tap]
        read = rearrange(read, "(b g) c h w -> b (g c) h w", g=groups)
        term = F.conv2d(read, weight[:, :, tap // 3, tap % 3, None, None], bias if tap == 0 else None)
        answer = term if answer is None else answer + term
    assert answer is not None
    return answer
