"""DAEFR: the Dual Associated Encoder for face restoration, as a model, a four-stage recipe, and weights to use."""

from .model import DAEFR, SingleEncoder
from .restore import Restorer, load

__all__ = ["DAEFR", "Restorer", "SingleEncoder", "load"]
