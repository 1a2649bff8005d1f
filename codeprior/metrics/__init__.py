"""Metrics: restored against clean, measured right and labelled with what measured them."""

from codeprior.metrics.codes import CodebookUsage, code_accuracy, codebook_usage
from codeprior.metrics.dlib_face import DlibFace
from codeprior.metrics.fidelity import eight_bit, psnr, ssim
from codeprior.metrics.identity import FaceEmbedding, identity_angle, identity_similarity
from codeprior.metrics.measures import (
    Measure,
    identity_measure,
    perceptual_measure,
    psnr_measure,
    score,
    ssim_measure,
)
from codeprior.metrics.perceptual import (
    MobileNetTrunk,
    TorchvisionTrunk,
    Trunk,
    feature_distance,
    lpips_heads,
    perceptual_distance,
)
from codeprior.metrics.provenance import Provenance, WeightsMissing
from codeprior.metrics.results import Results
from codeprior.metrics.statistics import Comparison, Summary, compare, summarise

__all__ = [
    "CodebookUsage",
    "Comparison",
    "DlibFace",
    "FaceEmbedding",
    "Measure",
    "MobileNetTrunk",
    "Provenance",
    "Results",
    "Summary",
    "TorchvisionTrunk",
    "Trunk",
    "WeightsMissing",
    "code_accuracy",
    "codebook_usage",
    "compare",
    "eight_bit",
    "feature_distance",
    "identity_angle",
    "identity_measure",
    "identity_similarity",
    "lpips_heads",
    "perceptual_distance",
    "perceptual_measure",
    "psnr",
    "psnr_measure",
    "score",
    "ssim",
    "ssim_measure",
    "summarise",
]
