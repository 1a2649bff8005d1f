"""Cross-entropy of matching rows among all pairs, in both directions, without the n x n matrix."""

from codeprior.kernels.contrastive.api import symmetric_cross_entropy
from codeprior.kernels.contrastive.gathered import gathered_cross_entropy

__all__ = ["gathered_cross_entropy", "symmetric_cross_entropy"]
