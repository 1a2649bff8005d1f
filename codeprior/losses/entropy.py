"""The loss under which the code of each vector becomes certain, and all codes are used evenly."""

import torch
from torch import Tensor
from torch.nn import functional as F

from codeprior.shapes import Latent


def code_entropy_loss(latent: Latent, *, temperature: float = 0.01, diversity: float = 1.0) -> Tensor:
    """Gives the mean entropy of the vectors' codes minus the entropy of their mean, for codes of −1 and 1.

    With p(c | z) ∝ exp(−|z − c|² / temperature) the bits are independent, and P(cᵢ = 1) = sigmoid(4 zᵢ / temperature).
    The first entropy is exact. The second is taken as the sum over the bits, which is an upper bound.

    Args:
        latent: `b d h w`, what `LookupFreeCodebook` was given.
        temperature: Of the assignment, above 0.
        diversity: Weight of the second entropy.

    Returns:
        Scalar, float32 or wider, in natural units; from −diversity · d · log 2 to d · log 2.

    Raises:
        ValueError: The temperature is not above 0.

    Source: Yu et al. 2023 (MAGVIT-v2), equation 5; for many codes by bits, as in section 3.1.
    """
    if temperature <= 0:
        raise ValueError(f"code_entropy_loss: expected a temperature above 0, got {temperature}.")
    wide = torch.promote_types(latent.dtype, torch.float32)
    logits = 4 * latent.to(wide) / temperature
    share = torch.sigmoid(logits)
    # −p log p − (1 − p) log (1 − p), from logits
    each = F.softplus(logits) - share * logits
    mean = share.mean((0, 2, 3))
    together = -torch.xlogy(mean, mean) - torch.xlogy(1 - mean, 1 - mean)
    return each.mean((0, 2, 3)).sum() - diversity * together.sum()
