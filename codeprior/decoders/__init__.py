"""Decoders: values of code space in, signed images out."""

from codeprior.decoders.protocol import Decoder
from codeprior.decoders.vqgan import VQGANDecoder
from codeprior.layers import Taps

__all__ = ["Decoder", "Taps", "VQGANDecoder"]
