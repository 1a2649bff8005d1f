"""Metrics: restored against clean, measured right and labelled with what measured them."""

from codeprior.metrics.codes import CodebookUsage, code_accuracy, codebook_usage
from codeprior.metrics.fidelity import eight_bit, psnr, ssim
from codeprior.metrics.provenance import Provenance, WeightsMissing

__all__ = [
    "CodebookUsage",
    "Provenance",
    "WeightsMissing",
    "code_accuracy",
    "codebook_usage",
    "eight_bit",
    "psnr",
    "ssim",
]
