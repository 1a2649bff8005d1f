"""VQFR: textures from a codebook, warped to the degraded face; both versions."""

from codeprior.families import Family, Layout, Option, Published
from codeprior.weights.layouts.vqfr import is_vqfr

from .convert import convert
from .model import VQFRv1, VQFRv2
from .restore import load_model

__all__ = ["FAMILY", "VQFRv1", "VQFRv2"]

FAMILY = Family(
    name="vqfr",
    load=load_model,
    text="textures from a codebook are warped to the degraded face (Gu et al. 2022)",
    layouts=(Layout("vqfr", is_vqfr, convert),),
    stages={
        "prior": f"{__name__}.prior_stage:PriorStage",
        "small_prior": "codeprior.stages:VQGANStage",
        "restoration": f"{__name__}.restoration_stage:RestorationStage",
        "joint_restoration": f"{__name__}.joint_restoration_stage:JointRestorationStage",
    },
    options={
        "fidelity": Option(
            float, 1.0, 0.0, 1.0, "the second version's fidelity ratio: 0 the texture alone, 1 follows the picture"
        )
    },
    # the publisher gives no checksum; the first version's file lies at no address that is known to stay
    published=(
        Published(
            "vqfr-v2",
            "https://github.com/TencentARC/VQFR/releases/download/v2.0.0/VQFR_v2.pth",
            "",
            "Apache-2.0",
            text="version 2, 512 px",
        ),
    ),
)
