"""JPEG in torch against libjpeg, to the last sample; and the gradient that mode `diff` gives it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codeprior.degradations import Jpeg
from codeprior.degradations.jpeg import jpeg_levels

from .every_jpeg import LONGEST, QUALITIES, Found, compared, content, every_width_and_quality
from .reference import photograph


def test_every_quality_has_no_mismatch():
    """All qualities, in ragged batches of sizes up to 64²; the slow test has all sizes."""
    draw = np.random.default_rng(0)
    found = Found(0, 0)
    for quality in QUALITIES:
        sizes = draw.integers(1, 65, (4, 2))
        images = [content(draw, number, *size) for number, size in enumerate(sizes)]
        found = Found(*np.add(found, compared(images, np.full(4, quality))))
    assert found.mismatches == 0
    assert found.samples > 1_000_000


def test_every_small_size_has_no_mismatch():
    """Chroma of two columns or less is not smoothed, and blocks are filled up from the edge: 1×1 to 18×18."""
    draw = np.random.default_rng(1)
    sizes = [(height, width) for height in range(1, 19) for width in range(1, 19)]
    images = [content(draw, number % 3, *size) for number, size in enumerate(sizes)]
    assert compared(images, draw.integers(1, 101, len(images))).mismatches == 0


@pytest.mark.slow
@pytest.mark.parametrize("height", range(1, LONGEST + 1))
def test_every_size_up_to_64_and_every_quality_has_no_mismatch(height):
    """`python -m tests.degradations.every_jpeg` runs the same in shards, and counts."""
    assert every_width_and_quality(height).mismatches == 0


@pytest.mark.slow
@pytest.mark.parametrize("quality", QUALITIES)
def test_512_has_no_mismatch(quality):
    photo = photograph(512).permute(1, 2, 0).numpy()
    noise = np.random.default_rng(quality).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    assert compared([photo, noise], np.full(2, quality)).mismatches == 0


def test_apply_gives_libjpegs_pixels_on_both_paths():
    images = [photograph(64), photograph(64)[:, :33, :50].contiguous(), photograph(64)[:, :1, :2].contiguous()]
    op = Jpeg(quality=(1, 100))
    drawn = op.sample(images, torch.Generator().manual_seed(0))
    quality = drawn.values["quality"].tolist()
    for impl in ("cpu", "torch"):
        for result, image, q in zip(op.apply(images, drawn, impl=impl), images, quality, strict=True):
            truth = jpeg_levels(image.permute(1, 2, 0).numpy(), q)
            np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), truth)


@given(low=st.integers(1, 100), span=st.integers(0, 99), seed=st.integers(0, 2**20))
def test_drawn_qualities_are_whole_and_inside_their_range(low, span, seed):
    high = min(low + span, 100)
    for cast in ("round", "floor"):
        op = Jpeg(quality=(low, high), cast=cast)
        quality = op.sample((64, 8, 8), torch.Generator().manual_seed(seed)).values["quality"]
        assert low <= quality.min() <= quality.max() <= high
        if cast == "floor" and high > low:
            # a real number below `high` is never `high` after int()
            assert quality.max() < high


def test_the_caller_keeps_the_qualities_and_quality_100_is_finite():
    """Defects of other differentiable JPEGs: the quality tensor is overwritten, and quality 100 divides by zero."""
    image, op = (photograph(48) / 255).requires_grad_(), Jpeg(quality=(100, 100))
    drawn = op.sample(image, torch.Generator().manual_seed(0))
    kept = drawn.values["quality"].clone()
    result = op.apply(image, drawn, mode="diff")
    result.sum().backward()
    assert torch.equal(drawn.values["quality"], kept)
    assert result.isfinite().all() and image.grad is not None and image.grad.isfinite().all()


def test_diff_mode_keeps_the_exact_values():
    image, op = (photograph(64) / 255).requires_grad_(), Jpeg(quality=(90, 90))
    drawn = op.sample(image, torch.Generator().manual_seed(0))
    result = op.apply(image, drawn, mode="diff")
    # adding and taking away the stand-in costs a rounding
    torch.testing.assert_close(result, op.apply(image.detach(), drawn), atol=1e-6, rtol=0)
