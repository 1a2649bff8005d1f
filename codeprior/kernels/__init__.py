"""Ops on tensors, each with a plain reference and faster implementations that give the same answer."""

from codeprior.kernels._choose import ImplUnavailable, use_impl
from codeprior.kernels._explain import explain
from codeprior.kernels.nearest_code.api import nearest_code

__all__ = ["ImplUnavailable", "explain", "nearest_code", "use_impl"]
