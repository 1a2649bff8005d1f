"""DAEFR, written as a user of the library would write it: two encoders see the degraded face, one prior restores it."""

from typing import NamedTuple

import torch
from torch import nn

from codeprior.codebooks import Codebook, MovingAverageCodebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.fusion import CrossAttentionFusion, LinearFusion
from codeprior.layers import configured
from codeprior.predictors import CodePredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.shapes import Image, Latent, Logits

from .recipes import Network, RestorationRecipe


class Prediction(NamedTuple):
    """What a restorer thinks of a degraded face.

    Attributes:
        logits: `b h w k`, a score for every code.
        fused: `b d h w`, the latent they were read from.
    """

    logits: Logits
    fused: Latent


@configured
class DAEFR(nn.Module):
    """The Dual Associated Encoder: HQ and LQ encoder both see the degraded face; the LQ latent asks the HQ latent.

    Args:
        prior: Codebook and decoder of the HQ stage, frozen.
        hq_encoder: The encoder that learned clean faces (associated in stage 2).
        lq_encoder: The encoder that learned degraded faces.
        fusion: Called as `fusion(stream=hq, guide=lq)`.
        predictor: Fused latent to logits.

    Source: Tsai et al. 2024. The released model also carries three tensors groups that no forward reads; they are left
        out, and the decoder is given the codes themselves rather than `fused + (codes − fused)`.
    """

    def __init__(
        self, prior: CodePrior, hq_encoder: nn.Module, lq_encoder: nn.Module, fusion: nn.Module, predictor: nn.Module
    ):
        super().__init__()
        self.prior = prior
        self.hq_encoder = hq_encoder
        self.lq_encoder = lq_encoder
        self.fusion = fusion
        self.predictor = predictor

    def forward(self, degraded: Image) -> Prediction:
        """Gives the scores of every code for degraded faces `b 3 H W`, signed."""
        fused = self.fusion(stream=self.hq_encoder(degraded), guide=self.lq_encoder(degraded))
        return Prediction(self.predictor(fused), fused)

    @torch.no_grad()
    def restore(self, degraded: Image) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind."""
        return self.prior.decode(self(degraded).logits.argmax(-1))


@configured
class SingleEncoder(nn.Module):
    """The baseline: one encoder, no fusion, otherwise the same.

    Args:
        prior: Codebook and decoder of the HQ stage, frozen.
        encoder: The encoder that learned clean faces.
        predictor: Latent to logits.

    Source: the first row of the paper's ablation.
    """

    def __init__(self, prior: CodePrior, encoder: nn.Module, predictor: nn.Module):
        super().__init__()
        self.prior = prior
        self.encoder = encoder
        self.predictor = predictor

    def forward(self, degraded: Image) -> Prediction:
        """Gives the scores of every code for degraded faces `b 3 H W`, signed."""
        latent = self.encoder(degraded)
        return Prediction(self.predictor(latent), latent)

    @torch.no_grad()
    def restore(self, degraded: Image) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind."""
        return self.prior.decode(self(degraded).logits.argmax(-1))


def vqgan(network: Network) -> VQGAN:
    """Gives a fresh VQGAN of these sizes, for stages 1a and 1b."""
    book = (
        Codebook(network.codes, network.dim)
        if network.codebook == "gradient"
        else MovingAverageCodebook(network.codes, network.dim, initialise_from_batch=True)
    )
    decoder = VQGANDecoder(
        network.dim, channels=network.channels, multipliers=network.multipliers, blocks=network.decoder_blocks,
        attention=network.attention, groups=network.groups,
    )  # fmt: skip
    return VQGAN(encoder(network), book, decoder)


def encoder(network: Network) -> VQGANEncoder:
    """Gives a fresh encoder of these sizes."""
    return VQGANEncoder(
        network.dim, channels=network.channels, multipliers=network.multipliers, blocks=network.encoder_blocks,
        attention=network.attention, groups=network.groups,
    )  # fmt: skip


def predictor(network: Network) -> CodePredictor:
    """Gives a fresh code predictor of these sizes."""
    return CodePredictor(
        network.dim, network.codes, grid=network.grid, width=network.width, layers=network.layers, heads=network.heads,
        hidden=network.hidden,
    )  # fmt: skip


def restorer(recipe: RestorationRecipe, prior: CodePrior) -> DAEFR | SingleEncoder:
    """Gives the model of stage 3 on a prior; its encoders are fresh until earlier stages fill them."""
    network = recipe.network
    if recipe.branches == "single":
        return SingleEncoder(prior, encoder(network), predictor(network))
    fusion = (
        CrossAttentionFusion(network.dim, heads=network.fusion_heads, groups=network.fusion_groups)
        if recipe.fusion == "attention"
        else LinearFusion(network.dim)
    )
    return DAEFR(prior, encoder(network), encoder(network), fusion, predictor(network))
