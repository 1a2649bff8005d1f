"""Metrics: restored against clean, measured right and labelled with what measured them."""

from codeprior.metrics.arcface import ArcFace
from codeprior.metrics.codes import CodebookUsage, code_accuracy, codebook_usage
from codeprior.metrics.dlib_face import DlibFace
from codeprior.metrics.fidelity import eight_bit, psnr, ssim
from codeprior.metrics.frechet import (
    FeatureStatistics,
    all_features,
    feature_statistics,
    fid,
    frechet_distance,
    kid,
    read_statistics,
    write_statistics,
)
from codeprior.metrics.identity import FaceEmbedding, identity_angle, identity_similarity
from codeprior.metrics.inception import FIDInception
from codeprior.metrics.landmarks import DlibLandmarks, HeatmapLandmarks, Landmarks, landmark_distance
from codeprior.metrics.measures import (
    Measure,
    identity_measure,
    landmark_measure,
    niqe_measure,
    perceptual_measure,
    psnr_measure,
    score,
    ssim_measure,
)
from codeprior.metrics.niqe import Pristine, niqe, pristine
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
from codeprior.metrics.verification import FacePair, Verification, read_pairs, verify

__all__ = [
    "ArcFace",
    "CodebookUsage",
    "Comparison",
    "DlibFace",
    "DlibLandmarks",
    "FIDInception",
    "FaceEmbedding",
    "FacePair",
    "FeatureStatistics",
    "HeatmapLandmarks",
    "Landmarks",
    "Measure",
    "MobileNetTrunk",
    "Pristine",
    "Provenance",
    "Results",
    "Summary",
    "TorchvisionTrunk",
    "Trunk",
    "Verification",
    "WeightsMissing",
    "all_features",
    "code_accuracy",
    "codebook_usage",
    "compare",
    "eight_bit",
    "feature_distance",
    "feature_statistics",
    "fid",
    "frechet_distance",
    "identity_angle",
    "identity_measure",
    "identity_similarity",
    "kid",
    "landmark_distance",
    "landmark_measure",
    "lpips_heads",
    "niqe",
    "niqe_measure",
    "perceptual_distance",
    "perceptual_measure",
    "pristine",
    "psnr",
    "psnr_measure",
    "read_pairs",
    "read_statistics",
    "score",
    "ssim",
    "ssim_measure",
    "summarise",
    "verify",
    "write_statistics",
]
