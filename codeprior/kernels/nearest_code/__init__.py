"""Which code is nearest to each vector: exact, on every device, without the n x k matrix."""

from codeprior.kernels.nearest_code.api import Lookup, lookup, nearest_code

__all__ = ["Lookup", "lookup", "nearest_code"]
