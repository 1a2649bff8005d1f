"""CodeFormer: codes predicted by a transformer, and a weight between the prior and the picture."""

from codeprior.families import Family, Layout, Option, Published
from codeprior.weights.layouts.codeformer import is_codeformer

from .convert import convert
from .model import CodeFormer
from .restore import load_model

__all__ = ["FAMILY", "CodeFormer"]

_RELEASE = "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0"
_LICENCE = "S-Lab 1.0, non-commercial"

FAMILY = Family(
    name="codeformer",
    load=load_model,
    text="a transformer predicts the codes of the clean face, a weight says how far the picture is followed "
    "(Zhou et al. 2022)",
    layouts=(Layout("codeformer", is_codeformer, convert, ("restoration", "inpainting", "colourisation")),),
    stages={
        "prior": "codeprior.stages:VQGANStage",
        "codes": f"{__name__}.codes_stage:CodesStage",
        "fidelity": f"{__name__}.fidelity_stage:FidelityStage",
    },
    tasks={"inpaint": "codeprior.restorers.tasks:inpaint", "colourise": "codeprior.restorers.tasks:colourise"},
    options={
        "fidelity": Option(float, 0.5, 0.0, 1.0, "the paper's w: 0 the predicted codes alone, 1 follows the picture")
    },
    # the publisher gives no checksums; these are what several independent users recorded of the released files
    published=(
        Published(
            "codeformer",
            f"{_RELEASE}/codeformer.pth",
            "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
            _LICENCE,
            376_637_898,
            "restoration, 512 px",
        ),
        Published(
            "codeformer-inpainting",
            f"{_RELEASE}/codeformer_inpainting.pth",
            "b0d1b868c3dacf75d637bbcc0d4b3dd4ce2a064a338dfb4d35c740d3b4ae8797",
            _LICENCE,
            text="inpainting of white areas, 512 px",
        ),
        Published(
            "codeformer-vqgan",
            f"{_RELEASE}/vqgan_code1024.pth",
            "4d1c6741b3cffcbdc2cd1a12b2c3c2442282e042d5de66909cb643d4fa31b20f",
            _LICENCE,
            255_078_528,
            "auto-encoder of the first stage, for training",
        ),
    ),
)
