"""How the damage estimator is trained and judged: faces damaged on purpose, and the truth about them."""

from .faces import KINDS, Made, Portraits, make_face

__all__ = ["KINDS", "Made", "Portraits", "make_face"]
