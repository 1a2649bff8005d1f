"""GFP-GAN: a U-Net that takes the damage away, and a StyleGAN2 decoder that it modulates."""

from codeprior.families import Family, Layout
from codeprior.weights.layouts.gfpgan import is_gfpgan

from .convert import convert
from .model import GFPGAN
from .restore import load_model

__all__ = ["FAMILY", "GFPGAN"]

FAMILY = Family(
    name="gfpgan",
    load=load_model,
    text="a U-Net and a StyleGAN2 decoder that it modulates, clean version (Wang et al. 2021)",
    layouts=(Layout("gfpgan", is_gfpgan, convert),),
)
