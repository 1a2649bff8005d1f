"""The gradient of JPEG in mode `diff` against slopes of libjpeg itself.

A slope is that of ⟨weight, jpeg(image)⟩ along a direction, over a step of two levels to either side, averaged over
dithers of two levels. Correlation and scale are over the directions of a crop of 64²; scale is the slope of the
regression of ours on the truth.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from codeprior.degradations import Jpeg
from codeprior.degradations.jpeg import jpeg_levels

from .reference import photograph

STEP = DITHER = 2 / 255


class Agreement(NamedTuple):
    correlation: float
    scale: float


def smooth(generator: torch.Generator) -> torch.Tensor:
    coarse = torch.randn(1, 3, 16, 16, generator=generator)
    field = torch.nn.functional.interpolate(coarse, size=64, mode="bicubic")[0]
    return field / field.square().mean().sqrt()


def white(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(3, 64, 64, generator=generator)


def decoded(image: torch.Tensor, quality: int) -> torch.Tensor:
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    out = jpeg_levels(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()), quality)
    return torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1) / 255


def agreement(quality: int, kind, *, crops: int, directions: int, dithers: int) -> Agreement:
    generator = torch.Generator().manual_seed(0)
    photo, op = photograph(256) / 255, Jpeg(quality=(quality, quality))
    found = []
    for _ in range(crops):
        top, left = (int(place) for place in torch.randint(0, 192, (2,), generator=generator))
        image = photo[:, top : top + 64, left : left + 64].clamp(0.05, 0.95).clone().requires_grad_()
        drawn, weight = op.sample(image, torch.Generator().manual_seed(0)), kind(generator)
        (op.apply(image, drawn, mode="diff") * weight).sum().backward()
        assert image.grad is not None
        fields = [DITHER * torch.randn(image.shape, generator=generator) for _ in range(dithers)]
        ours, truth = np.zeros(directions), np.zeros(directions)
        for number in range(directions):
            direction = kind(generator)
            ours[number] = float((image.grad * direction).sum())
            for field in fields:
                ends = (decoded(image.detach() + field + sign * STEP * direction, quality) for sign in (1, -1))
                truth[number] += float((weight * torch.sub(*ends)).sum()) / (2 * STEP * dithers)
        found.append((np.corrcoef(ours, truth)[0, 1], ours @ truth / (truth @ truth)))
    return Agreement(*np.mean(found, 0))


def test_the_gradient_points_where_libjpeg_goes():
    """Two crops along white noise, where passing all gradients on correlates by 0.1; the slow test measures."""
    found = agreement(60, white, crops=2, directions=10, dithers=12)
    assert found.correlation >= 0.75
    assert 0.5 <= found.scale <= 1.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [smooth, white], ids=["smooth", "white"])
@pytest.mark.parametrize(("quality", "least"), [(30, 0.7), (60, 0.7), (75, 0.8), (90, 0.85)])
def test_agreement_with_libjpegs_slopes(quality, least, kind):
    """The goals of the specification: 0.7 at quality 60 and 0.85 at 90 over 20 crops, scale 0.5 to 1.2."""
    found = agreement(quality, kind, crops=20, directions=12, dithers=32)
    print(f"\nquality {quality}, {kind.__name__}: correlation {found.correlation:.2f}, scale {found.scale:.2f}")
    assert found.correlation >= least
    assert 0.5 <= found.scale <= 1.2


def test_quality_100_passes_gradients_on():
    """There every step is 1, far below the noise: the round trip is nearly the identity on grey pictures."""
    image = (photograph(48)[:1] / 255).clamp(0.05, 0.95).expand(3, -1, -1).clone().requires_grad_()
    op = Jpeg(quality=(100, 100))
    weight = torch.randn(48, 48, generator=torch.Generator().manual_seed(0))
    result = op.apply(image, op.sample(image, torch.Generator().manual_seed(0)), mode="diff")
    (result.mean(0) * weight).sum().backward()
    assert image.grad is not None
    torch.testing.assert_close(image.grad.sum(0), weight, atol=0.05, rtol=0.05)
