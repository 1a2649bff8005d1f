"""Encoders: signed images in, latents out."""

from codeprior.encoders.protocol import Encoder
from codeprior.encoders.timm import TimmEncoder
from codeprior.encoders.vqgan import VQGANEncoder

__all__ = ["Encoder", "TimmEncoder", "VQGANEncoder"]
