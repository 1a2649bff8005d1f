"""Decoders: values of code space in, signed images out."""

from codeprior.decoders.vqgan import Taps, VQGANDecoder

__all__ = ["Taps", "VQGANDecoder"]
