"""Generators: styles in, signed images out."""

from codeprior.generators.stylegan import MappingNetwork, Noise, StyleGANGenerator, SynthesisNetwork, mixed_styles

__all__ = ["MappingNetwork", "Noise", "StyleGANGenerator", "SynthesisNetwork", "mixed_styles"]
