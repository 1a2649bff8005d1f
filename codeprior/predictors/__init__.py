"""Predictors: a latent in, scores of every code out."""

from codeprior.predictors.linear import LinearPredictor
from codeprior.predictors.transformer import CodePredictor

__all__ = ["CodePredictor", "LinearPredictor"]
