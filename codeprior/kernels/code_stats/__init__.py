"""Counts and vector sums by code, for gradients and moving averages: deterministic, without float atomics."""

from codeprior.kernels.code_stats.api import CodeStats, code_stats

__all__ = ["CodeStats", "code_stats"]
