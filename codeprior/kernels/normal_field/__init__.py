"""Normal numbers from keys and places: the same on every device, in any batch."""

from codeprior.kernels.normal_field.api import normal_field

__all__ = ["normal_field"]
