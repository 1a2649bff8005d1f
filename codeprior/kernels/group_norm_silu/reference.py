"""The meaning of GroupNorm followed by SiLU."""

from torch import Tensor
from torch.nn import functional as F

from codeprior.kernels._layout import places_together


def group_norm_silu_reference(feature: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float) -> Tensor:
    """Gives `y · sigmoid(y)` for `y = weight · (x − mean) / √(variance + epsilon) + bias`, moments by image and group.

    Args:
        feature: `b c h w`.
        weight: `(c,)`.
        bias: `(c,)`.
        groups: How many groups of neighbouring channels share their moments.
        epsilon: Added to the variance.
    """
    return F.silu(F.group_norm(places_together(feature), groups, weight, bias, epsilon))
