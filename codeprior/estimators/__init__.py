"""What a degraded picture still holds: damage parameters, and the highest spatial frequency that is trustworthy."""

from codeprior.estimators.damage import Damage, DamageEstimator, Examined, load_estimator
from codeprior.estimators.limit import measured_limit, radial_spectrum
from codeprior.estimators.statistics import face_statistics

__all__ = [
    "Damage", "DamageEstimator", "Examined", "face_statistics", "load_estimator", "measured_limit", "radial_spectrum",
]  # fmt: skip
