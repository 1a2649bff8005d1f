"""Tables of codes: the nearest row for each vector, and how the rows learn."""

from codeprior.codebooks.codebook import Codebook, Quantized
from codeprior.codebooks.composed import GroupedCodebook, ResidualCodebook, Stages
from codeprior.codebooks.cosine import CosineCodebook
from codeprior.codebooks.ema import MovingAverageCodebook
from codeprior.codebooks.gradients import rotate, straight_through
from codeprior.codebooks.implicit import FiniteScalarCodebook, LookupFreeCodebook
from codeprior.codebooks.protocol import Quantizer
from codeprior.codebooks.simvq import SimVQCodebook
from codeprior.codebooks.start import LatentReservoir, kmeans, unused
from codeprior.codebooks.usage import UsageMeter, perplexity, usage
from codeprior.codebooks.vqp import QuantizedWithLoss, VQPCodebook, accelerate

__all__ = [
    "Codebook",
    "CosineCodebook",
    "FiniteScalarCodebook",
    "GroupedCodebook",
    "LatentReservoir",
    "LookupFreeCodebook",
    "MovingAverageCodebook",
    "Quantized",
    "QuantizedWithLoss",
    "Quantizer",
    "ResidualCodebook",
    "SimVQCodebook",
    "Stages",
    "UsageMeter",
    "VQPCodebook",
    "accelerate",
    "kmeans",
    "perplexity",
    "rotate",
    "straight_through",
    "unused",
    "usage",
]
