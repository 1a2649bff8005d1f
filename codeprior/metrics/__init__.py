"""Metrics: restored images against clean ones; every figure says how, and by which network, it was measured."""

from codeprior.metrics.arcface import ArcFace
from codeprior.metrics.codes import CodebookUsage, code_accuracy, codebook_usage
from codeprior.metrics.columns import Columns, column_names, columns
from codeprior.metrics.dlib_face import DlibFace
from codeprior.metrics.efficientnet import EfficientNetLiteTrunk
from codeprior.metrics.fidelity import colour_error, eight_bit, psnr, ssim
from codeprior.metrics.flicker import flicker
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
from codeprior.metrics.journal import Entry, Journal
from codeprior.metrics.landmarks import DlibLandmarks, HeatmapLandmarks, Landmarks, landmark_distance
from codeprior.metrics.measures import (
    Measure,
    colour_measure,
    identity_measure,
    landmark_measure,
    niqe_measure,
    perceptual_measure,
    psnr_measure,
    score,
    ssim_measure,
)
from codeprior.metrics.niqe import Pristine, niqe, pristine
from codeprior.metrics.official import OfficialTrunk
from codeprior.metrics.perceptual import (
    MobileNetTrunk,
    TorchvisionTrunk,
    Trunk,
    feature_distance,
    lpips_heads,
    perceptual_distance,
)
from codeprior.metrics.pictures import FeatureRows, features_by_name, find_pictures
from codeprior.metrics.provenance import Provenance, WeightsMissing
from codeprior.metrics.report import extremes, write_report
from codeprior.metrics.results import Results, SetFigure
from codeprior.metrics.statistics import Comparison, Summary, compare, summarise
from codeprior.metrics.tables import results_markdown, write_results
from codeprior.metrics.verification import FacePair, Verification, identity_pairs, read_pairs, verify

__all__ = [
    "ArcFace",
    "CodebookUsage",
    "Columns",
    "Comparison",
    "DlibFace",
    "DlibLandmarks",
    "EfficientNetLiteTrunk",
    "Entry",
    "FIDInception",
    "FaceEmbedding",
    "FacePair",
    "FeatureRows",
    "FeatureStatistics",
    "HeatmapLandmarks",
    "Journal",
    "Landmarks",
    "Measure",
    "MobileNetTrunk",
    "OfficialTrunk",
    "Pristine",
    "Provenance",
    "Results",
    "SetFigure",
    "Summary",
    "TorchvisionTrunk",
    "Trunk",
    "Verification",
    "WeightsMissing",
    "all_features",
    "code_accuracy",
    "codebook_usage",
    "colour_error",
    "colour_measure",
    "column_names",
    "columns",
    "compare",
    "eight_bit",
    "extremes",
    "feature_distance",
    "feature_statistics",
    "features_by_name",
    "fid",
    "find_pictures",
    "flicker",
    "frechet_distance",
    "identity_angle",
    "identity_measure",
    "identity_pairs",
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
    "results_markdown",
    "score",
    "ssim",
    "ssim_measure",
    "summarise",
    "verify",
    "write_report",
    "write_results",
    "write_statistics",
]
