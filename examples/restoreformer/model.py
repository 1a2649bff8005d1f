"""RestoreFormer: a dictionary of clean faces, whose textures the degraded face asks for in the decoder's attention."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from codeprior.codebooks import Codebook, MovingAverageCodebook, Quantized
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.layers import MIDDLE, AttentionBlock, Recorder, ResidualBlock, Tap, configured
from codeprior.prior import VQGAN, Reconstruction
from codeprior.shapes import Image

from .settings import Network


@configured
class RestoreFormer(nn.Module):
    """An encoder, a frozen dictionary, and a decoder that the encoder's features ask.

    In every attention of the decoder the queries come from the degraded face; keys, values and the residual come from
    the codes. RestoreFormer++ is the same model with attention in the decoder at half the deepest resolution too.

    Args:
        encoder: Of the degraded face.
        codebook: The dictionary; it is frozen.
        decoder: A guided one, see `VQGANDecoder`.
        size: Side of the faces that it was trained on, pixels; it takes any multiple of its stride.

    Source: Wang et al. 2022 (RestoreFormer) and 2023 (RestoreFormer++). The paper has no control of fidelity.
    """

    scale = 1
    """Side of the answer over the side of what is restored."""

    def __init__(self, encoder: nn.Module, codebook: nn.Module, decoder: nn.Module, *, size: int = 512):
        super().__init__()
        self.encoder, self.codebook = encoder, codebook.requires_grad_(False).eval()
        self.decoder = cast(VQGANDecoder, decoder)
        self.size = size

    @property
    def stride(self) -> int:
        """Pixels a grid step of the codes."""
        return self.decoder.stride

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of encoder and decoder; a dictionary of moving averages stays as it is."""
        super().train(mode)
        self.codebook.eval()
        return self

    def forward(self, degraded: Image) -> Reconstruction:
        """Gives the restored faces, with everything on the way that losses need.

        Args:
            degraded: `b 3 H W`, signed; sides are multiples of `stride`.
        """
        recorder = self.recorder()
        latent = self.encoder(degraded, taps=recorder.taps)
        quantized: Quantized = self.codebook(latent)
        image = self.decoder(quantized.values, guides=self.guides(recorder))
        return Reconstruction(image, latent, quantized)

    @torch.no_grad()
    def restore(self, degraded: Image) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind."""
        return self(degraded).image

    def recorder(self) -> Recorder:
        """Gives what keeps the encoder's features that the decoder is asked by."""
        return Recorder(list(self._sources().values()))

    def guides(self, recorder: Recorder) -> Mapping[int, Tensor]:
        """Gives the decoder's guides.

        Args:
            recorder: That has been through the encoder.
        """
        return {place: recorder.features[source] for place, source in self._sources().items()}

    def _sources(self) -> dict[int, Tap]:
        # at the deepest grid the same feature asks three times; elsewhere the end of the encoder's level does
        own = {MIDDLE: Tap(MIDDLE), self.stride: Tap(MIDDLE, block=0)}
        return {place: own.get(place, Tap(place)) for place in self.decoder.guided}


def vqgan(network: Network, *, moving_average: bool = False) -> VQGAN:
    """Gives a fresh auto-encoder of these sizes, for the first stage."""
    table = (
        MovingAverageCodebook(network.codes, network.dim, initialise_from_batch=True)
        if moving_average
        else Codebook(network.codes, network.dim)
    )
    return VQGAN(_encoder(network), table, _decoder(network, guided=False))


def fresh(network: Network, dictionary: VQGAN) -> RestoreFormer:
    """Gives the model of the second stage, begun from a dictionary; what the degraded face asks through is drawn.

    Args:
        network: Sizes.
        dictionary: Of the same sizes, but for attention that the restorer's decoder has beside it.
    """
    encoder, decoder = _encoder(network), _decoder(network, guided=True)
    encoder.load_state_dict(dictionary.encoder.state_dict())
    _copy_blocks(decoder, cast(VQGANDecoder, dictionary.decoder))
    return RestoreFormer(encoder, deepcopy(cast(nn.Module, dictionary.codebook)), decoder, size=network.size)


def _copy_blocks(decoder: VQGANDecoder, known: VQGANDecoder) -> None:
    # a level that gains attention counts its steps anew, so blocks are matched in their order
    for name in ("from_code", "conv_in", "norm_out", "conv_out"):
        decoder.get_submodule(name).load_state_dict(known.get_submodule(name).state_dict())
    pairs: list[tuple[Any, Any]] = [(decoder.middle, known.middle)]
    for mine, theirs in zip(decoder.levels, known.levels, strict=True):
        cast(Any, mine).resample.load_state_dict(cast(Any, theirs).resample.state_dict())
        pairs.append((cast(Any, mine).steps, cast(Any, theirs).steps))
    for mine, theirs in pairs:
        for kind in (ResidualBlock, AttentionBlock):
            ours = [step for step in mine if isinstance(step, kind)]
            for step, given in zip(ours, [step for step in theirs if isinstance(step, kind)], strict=False):
                step.load_state_dict({**step.state_dict(), **given.state_dict()})


def _encoder(network: Network) -> VQGANEncoder:
    return VQGANEncoder(
        network.dim, blocks=network.encoder_blocks, attention=network.attention, **_pyramid(network)
    )  # fmt: skip


def _decoder(network: Network, *, guided: bool) -> VQGANDecoder:
    attention = network.decoder_attention if guided else network.attention
    return VQGANDecoder(
        network.dim, blocks=network.decoder_blocks, attention=attention, guided=guided, **_pyramid(network)
    )  # fmt: skip


def _pyramid(network: Network) -> dict[str, Any]:
    return {
        "channels": network.channels, "multipliers": network.multipliers, "heads": network.heads,
        "groups": network.groups, "unshuffle": network.unshuffle,
    }  # fmt: skip
