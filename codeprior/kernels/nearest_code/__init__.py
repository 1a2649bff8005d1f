"""Which code is nearest to each vector: exact, on every device, without the n x k matrix."""

from codeprior.kernels.nearest_code.api import Lookup, lookup, nearest_code
from codeprior.kernels.nearest_code.residual import residual_code

__all__ = ["Lookup", "lookup", "nearest_code", "residual_code"]
