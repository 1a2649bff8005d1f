"""Tables of codes: the nearest row for each vector, and how the rows learn."""

from codeprior.codebooks.codebook import Codebook, Quantized, straight_through
from codeprior.codebooks.ema import MovingAverageCodebook
from codeprior.codebooks.usage import perplexity, usage

__all__ = ["Codebook", "MovingAverageCodebook", "Quantized", "perplexity", "straight_through", "usage"]
