"""RestoreFormer: a dictionary of clean faces that the degraded face asks by attention."""

from codeprior.families import Family, Layout
from codeprior.weights.layouts.restoreformer import is_restoreformer

from .convert import convert
from .model import RestoreFormer
from .restore import load_model

__all__ = ["FAMILY", "RestoreFormer"]

FAMILY = Family(
    name="restoreformer",
    load=load_model,
    text="the degraded face asks a dictionary of clean faces by attention in the decoder (Wang et al. 2022)",
    layouts=(Layout("restoreformer", is_restoreformer, convert, ("restorer", "dictionary")),),
    stages={
        "dictionary": "codeprior.stages:VQGANStage",
        "restoration": f"{__name__}.restoration_stage:RestorationStage",
    },
)
