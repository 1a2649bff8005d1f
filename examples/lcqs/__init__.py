"""LCQS: degraded and clean faces in one style space, and a learned shift from one to the other, without pairs."""

from codeprior.families import Family, Option

from .model import LCQS
from .restore import load_model

__all__ = ["FAMILY", "LCQS"]

FAMILY = Family(
    name="lcqs",
    load=load_model,
    text="a learned shift in StyleGAN's style space, trained without pairs (Dong et al. 2022, reconstructed)",
    stages={
        "encoders": f"{__name__}.encoder_stage:EncoderStage",
        "shift": f"{__name__}.shift_stage:ShiftStage",
    },
    options={
        "level": Option(
            float, 1.0, 0.0, 1.5, "how far along the shift: 0 the face as it is, 1 as trained, more goes beyond it"
        ),
    },
)
