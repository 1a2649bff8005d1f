"""VQFR: a codebook gives the texture, and a second branch warps it to the degraded face; both versions."""

from copy import deepcopy
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.codebooks import Codebook, MovingAverageCodebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.fusion import TextureBranch
from codeprior.layers import Recorder, Tap, Tapped, configured, group_norm
from codeprior.predictors import LinearPredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.shapes import Image, Latent, Logits, ManyLogits

from .settings import Network


class Prediction(NamedTuple):
    """What VQFR thinks of a degraded face.

    Attributes:
        logits: `b h w k`, a score for every code, on a prior of several tables `b m h w k`; None where the nearest
            codes are taken.
        latent: `b d h w`, what the encoder gave.
    """

    logits: Logits | ManyLogits | None
    latent: Latent


class Both(NamedTuple):
    """The two pictures of the first version.

    Attributes:
        texture: `b 3 H W`, signed, what the codes alone show.
        image: `b 3 H W`, signed, the restored face.
        latent: `b d h w`, what the encoder gave.
    """

    texture: Image
    image: Image
    latent: Latent


@configured
class VQFRv1(nn.Module):
    """The first version: nearest codes, a texture decoder that goes on learning, and a branch with its own head.

    Args:
        encoder: Of the degraded face.
        codebook: Of clean faces; it is frozen.
        decoder: From codes to the texture picture.
        branch: What warps the decoder's textures; where the decoder shuffles squares of pixels at its end, so does this
            restorer.
        size: Side of the faces that it was trained on, pixels; it takes any multiple of its stride.
        groups: Groups of the last normalisation.

    Source: Gu et al. 2022, and the configuration named v1. It has no control of fidelity: the published code accepts
        one and does not use it.
    """

    scale = 1
    """Side of the answer over the side of what is restored."""

    def __init__(
        self,
        encoder: nn.Module,
        codebook: nn.Module,
        decoder: nn.Module,
        branch: nn.Module,
        *,
        size: int = 512,
        groups: int = 32,
    ):
        super().__init__()
        self.encoder, self.codebook = encoder, codebook.requires_grad_(False)
        self.decoder = cast(VQGANDecoder, decoder)
        self.branch = cast(TextureBranch, branch)
        self.size = size
        self.norm_out = nn.Sequential(group_norm(self.branch.channels, groups=groups), nn.SiLU())
        self.unshuffle = self.branch.strides[-1]
        pixels = 3 * self.unshuffle**2
        self.conv_out = nn.Conv2d(self.branch.channels + pixels, pixels, 3, padding=1)

    @property
    def stride(self) -> int:
        """Pixels a grid step of the codes."""
        return self.decoder.stride

    def forward(self, degraded: Image) -> Both:
        """Gives both pictures of degraded faces `b 3 H W`, signed; sides are multiples of `stride`."""
        latent = self.encoder(degraded)
        recorder = Recorder(self.branch.places)
        texture = self.decoder(self.codebook(latent).values, taps=recorder.taps)
        feature = self.norm_out(self.branch(recorder.features, degraded))
        if self.unshuffle == 1:
            return Both(texture, self.conv_out(torch.cat((feature, degraded), 1)), latent)
        seen = torch.cat((feature, F.pixel_unshuffle(degraded, self.unshuffle)), 1)
        return Both(texture, F.pixel_shuffle(self.conv_out(seen), self.unshuffle), latent)

    @torch.no_grad()
    def restore(self, degraded: Image) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind."""
        return self(degraded).image


@configured
class VQFRv2(nn.Module):
    """The second version: a linear map or the nearest codes, a frozen prior, and a branch that its own head shows.

    Args:
        prior: Codebook and decoder of the first stage, frozen.
        encoder: Of the degraded face.
        branch: What warps the decoder's textures.
        predictor: Latent to logits (the published mode *Predict*); None takes the nearest codes (*Nearest*).
        size: Side of the faces that it was trained on, pixels; it takes any multiple of its stride.

    Source: Gu et al. 2022, the journal version's configuration named v2.
    """

    scale = 1
    """Side of the answer over the side of what is restored."""

    def __init__(
        self,
        prior: CodePrior,
        encoder: nn.Module,
        branch: nn.Module,
        predictor: nn.Module | None = None,
        *,
        size: int = 512,
    ):
        super().__init__()
        self.prior = prior
        self.encoder = encoder
        self.branch = cast(TextureBranch, branch)
        self.predictor = cast(LinearPredictor | None, predictor)
        self.size = size

    @property
    def stride(self) -> int:
        """Pixels a grid step of the codes."""
        return self.prior.stride

    def forward(self, degraded: Image) -> Prediction:
        """Gives the latent of degraded faces `b 3 H W`, signed, and where it predicts codes, their scores."""
        latent = self.encoder(degraded)
        return Prediction(None if self.predictor is None else self.predictor(latent), latent)

    @torch.no_grad()
    def restore(self, degraded: Image, *, fidelity: float | Tensor = 1.0) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind.

        Args:
            degraded: `b 3 H W`, signed.
            fidelity: The paper's fidelity ratio, in [0, 1]: 0 is the texture alone, 1 follows the picture; a number, or
                a tensor with one for each face. The picture that the training judges is that of 1.

        Raises:
            ValueError: The number is out of range.
        """
        if not isinstance(fidelity, Tensor) and not 0 <= fidelity <= 1:
            raise ValueError(f"restore: expected a fidelity in [0, 1], got {fidelity}.")
        return self.decode(self(degraded), degraded, fidelity=fidelity)

    def decode(self, prediction: Prediction, degraded: Image, *, fidelity: float | Tensor = 1.0) -> Image:
        """Gives the faces that a prediction stands for, with gradients to the branch.

        Args:
            prediction: Of degraded faces.
            degraded: The faces, `b 3 H W`, signed.
            fidelity: In [0, 1].
        """
        codes = self._codes(prediction)
        if not isinstance(fidelity, Tensor) and fidelity == 0:
            return self.prior.decode(codes)  # the branch would be multiplied by nothing
        weight = (
            rearrange(fidelity, "b -> b 1 1 1") if isinstance(fidelity, Tensor) and fidelity.ndim == 1 else fidelity
        )
        recorder = Recorder(self.branch.places)
        taps: dict[Tap, Tapped] = dict(recorder.taps)
        finest = self.branch.places[-1]

        def warped(texture: Tensor) -> Tensor:
            return texture + weight * self.branch(recorder.features | {finest: texture}, degraded)

        return self.prior.decode(codes, taps | {finest: warped})

    def _codes(self, prediction: Prediction) -> Latent:
        if prediction.logits is None:
            return self.prior.quantize(prediction.latent).codes
        return self.prior.lookup(prediction.logits.argmax(-1))


def vqgan(network: Network, *, moving_average: bool = False) -> VQGAN:
    """Gives a fresh auto-encoder of either version, for the first stage."""
    table = (
        MovingAverageCodebook(network.codes, network.dim, initialise_from_batch=True)
        if moving_average
        else Codebook(network.codes, network.dim)
    )
    sizes: dict[str, Any] = {
        "channels": network.channels, "multipliers": network.multipliers, "attention": network.attention,
        "groups": network.groups, "unshuffle": network.unshuffle,
    }  # fmt: skip
    if network.version == 1:
        sizes |= {"bilinear": True, "middle": False}
        widest = network.channels * network.multipliers[-1]
        encoder = VQGANEncoder(network.dim, blocks=network.blocks, latent_channels=widest, **sizes)
        decoder = VQGANDecoder(network.dim, blocks=network.decoder_blocks, widening=False, **sizes)
    else:
        encoder = VQGANEncoder(network.dim, blocks=network.blocks, code_convolution=False, **sizes)
        decoder = VQGANDecoder(network.dim, blocks=network.decoder_blocks, code_convolution=False, **sizes)
    return VQGAN(encoder, table, decoder)


def fresh(network: Network, teacher: VQGAN) -> VQFRv2:
    """Gives a model of the second version: prior and encoder are the teacher's, branch and predictor are drawn."""
    prior = teacher.prior()
    predictor = LinearPredictor(prior.dim, prior.size, normalised=True, tables=prior.tables)
    return VQFRv2(prior, _copied(teacher.encoder), _branch(network, teacher), predictor, size=network.size)


def fresh_first(network: Network, teacher: VQGAN) -> VQFRv1:
    """Gives a model of the first version: encoder and decoder begin as the teacher's, the branch is drawn."""
    return VQFRv1(
        _copied(teacher.encoder), deepcopy(cast(nn.Module, teacher.codebook)), _copied(teacher.decoder),
        _branch(network, teacher, bilinear=True), size=network.size, groups=network.groups,
    )  # fmt: skip


def _copied(module: Any) -> nn.Module:
    return deepcopy(cast(nn.Module, module)).requires_grad_(True)


def _branch(network: Network, teacher: VQGAN, *, bilinear: bool = False) -> TextureBranch:
    widths = cast(VQGANDecoder, teacher.decoder).tap_channels
    return TextureBranch(
        [widths[stride] for stride in sorted(widths)], groups=network.groups, finest=min(widths), bilinear=bilinear,
        condition_channels=network.condition_channels, deformable_groups=network.deformable_groups,
    )  # fmt: skip
