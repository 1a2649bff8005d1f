"""Evaluation: test sets that can be rebuilt anywhere, methods, runs that go on where they stopped, and reports."""

from codeprior.evaluation.validation import FixedFaces, figures

__all__ = ["FixedFaces", "figures"]
