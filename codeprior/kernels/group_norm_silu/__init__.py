"""GroupNorm followed by SiLU, as one op."""

from codeprior.kernels.group_norm_silu.api import group_norm_silu

__all__ = ["group_norm_silu"]
