"""Metrics: restored against clean, measured right and labelled with what measured them."""

from codeprior.metrics.codes import CodebookUsage, code_accuracy, codebook_usage
from codeprior.metrics.dlib_face import DlibFace
from codeprior.metrics.fidelity import eight_bit, psnr, ssim
from codeprior.metrics.identity import FaceEmbedding, identity_angle, identity_similarity
from codeprior.metrics.perceptual import MobileNetTrunk, TorchvisionTrunk, Trunk, lpips_heads, perceptual_distance
from codeprior.metrics.provenance import Provenance, WeightsMissing

__all__ = [
    "CodebookUsage",
    "DlibFace",
    "FaceEmbedding",
    "MobileNetTrunk",
    "Provenance",
    "TorchvisionTrunk",
    "Trunk",
    "WeightsMissing",
    "code_accuracy",
    "codebook_usage",
    "eight_bit",
    "identity_angle",
    "identity_similarity",
    "lpips_heads",
    "perceptual_distance",
    "psnr",
    "ssim",
]
