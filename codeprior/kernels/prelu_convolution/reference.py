"""The meaning of the small convolution, step by step."""

from torch import Tensor
from torch.nn import functional as F


def prelu_convolution_reference(
    feature: Tensor, weight: Tensor, bias: Tensor, slope: Tensor | None, pool: int
) -> Tensor:
    """Gives `max_pool(prelu(conv(feature)))`; slope and pool may be missing.

    Args:
        feature: `b c h w`.
        weight: `o c k k`.
        bias: `(o,)`.
        slope: `(o,)`, of the PReLU.
        pool: Side of the maximum's window, whose stride is 2; 0 for none.
    """
    answer = F.conv2d(feature, weight, bias)
    answer = answer if slope is None else F.prelu(answer, slope)
    return F.max_pool2d(answer, pool, 2, ceil_mode=True) if pool else answer
