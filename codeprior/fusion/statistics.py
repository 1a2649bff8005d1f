"""Adaptive instance normalisation: a stream takes over the mean and the spread of a guide's channels."""

import torch

from codeprior.shapes import Latent

_EPSILON = 1e-5


def adain(stream: Latent, guide: Latent) -> Latent:
    """Gives a stream each of whose channels has the guide's mean and deviation over the grid.

    `(stream − mean(stream)) / deviation(stream) · deviation(guide) + mean(guide)`, for each sample and channel, with
    `deviation = sqrt(variance + 1e-5)` and the unbiased variance (divided by one less than the count of places).

    Args:
        stream: `b d h w`, what is kept.
        guide: `b d h2 w2`, whose statistics are taken over; the grids may differ.

    Returns:
        `b d h w`.

    Raises:
        ValueError: The two have another batch or another dimension, or a grid has a single place, whose spread is not
            defined.

    Source: Huang and Belongie 2017; the variance is that of Zhou et al. 2022 (CodeFormer), which gives the codes the
        colours of the degraded picture in this way.
    """
    if stream.shape[:2] != guide.shape[:2]:
        raise ValueError(
            f"adain: the stream has batch and dimension {tuple(stream.shape[:2])}, the guide {tuple(guide.shape[:2])}; "
            "they must be equal."
        )
    if min(stream.shape[-2] * stream.shape[-1], guide.shape[-2] * guide.shape[-1]) < 2:
        raise ValueError("adain: expected grids of two places at least, got one; give it larger images.")
    mean, deviation = _statistics(stream)
    wanted_mean, wanted_deviation = _statistics(guide)
    return (stream - mean) / deviation * wanted_deviation + wanted_mean


def _statistics(latent: Latent) -> tuple[torch.Tensor, torch.Tensor]:
    variance, mean = torch.var_mean(latent, dim=(-2, -1), correction=1, keepdim=True)
    return mean, (variance + _EPSILON).sqrt()
