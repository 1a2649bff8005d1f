"""RestoreFormer: a dictionary of clean faces that the degraded face asks by attention."""

from codeprior.families import Family, Layout, Published
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
    # neither publisher gives a checksum
    published=(
        Published(
            "restoreformer",
            "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.4/RestoreFormer.pth",
            "",
            "Apache-2.0",
            text="RestoreFormer, 512 px, as GFP-GAN's release has it",
        ),
        Published(
            "restoreformer-plus",
            "https://github.com/wzhouxiff/RestoreFormerPlusPlus/releases/download/v1.0.0/RestoreFormer++.ckpt",
            "",
            "Apache-2.0",
            text="RestoreFormer++, 512 px, the trainer's file",
        ),
    ),
)
