"""GPEN: a StyleGAN2 of faces behind an encoder, whose features are its noise."""

from codeprior.families import Family, Layout, Option
from codeprior.weights.layouts.gpen import is_gpen

from .convert import convert
from .model import GPEN
from .restore import load_model

__all__ = ["FAMILY", "GPEN"]

FAMILY = Family(
    name="gpen",
    load=load_model,
    text="a StyleGAN2 of faces is embedded behind an encoder and fine-tuned (Yang et al. 2021)",
    layouts=(Layout("gpen", is_gpen, convert, ("restoration", "colourisation", "inpainting", "segmentation")),),
    stages={
        "prior": f"{__name__}.prior_stage:PriorStage",
        "finetuning": f"{__name__}.finetuning_stage:FineTuningStage",
    },
    tasks={
        "inpaint": "codeprior.restorers.tasks:inpaint",
        "colourise": "codeprior.restorers.tasks:colourise",
        "draw": "codeprior.restorers.tasks:draw",
    },
    options={"seed": Option(int, 0, 0, 2**31, "of the noise above the input's resolution, in super-resolution")},
)
