"""DAEFR: the Dual Associated Encoder for face restoration, as a model, a four-stage recipe, and weights to use."""

from .restore import Restorer, load

__all__ = ["Restorer", "load"]
