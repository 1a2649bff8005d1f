"""JPEG: the Triton kernels that ship, in the interpreter where there is no GPU, against libjpeg, and its tables."""

import cv2
import numpy as np
import pytest
import torch

from codeprior.kernels import jpeg, quality_tables
from codeprior.kernels.jpeg.fused import launch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def libjpeg(levels: np.ndarray, quality: int) -> np.ndarray:
    code = cv2.imencode(".jpg", np.ascontiguousarray(levels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1]


def hard(kind: int, height: int, width: int, seed: int) -> np.ndarray:
    """What rounds and saturates most: noise, black and white, a board, stripes, a ramp, one colour."""
    draw, (y, x) = np.random.default_rng(seed), np.mgrid[:height, :width]
    noise = draw.integers(0, 256, (height, width, 3))
    ways = (
        noise,
        255 * (noise & 1),
        255 * ((y + x) % 2)[..., None] * np.ones(3),
        np.where((x % 3 == 0)[..., None], [255, 0, 0], [0, 255, 255]),
        (4 * y + 3 * x)[..., None] % 256 + [0, 1, 2],
        np.full((height, width, 3), draw.integers(0, 256, 3)),
    )
    return np.clip(ways[kind % len(ways)], 0, 255).astype(np.uint8)


def mismatches(images: list[np.ndarray], quality: list[int], **tiles: int) -> int:
    """Of the Triton kernels with libjpeg, on one ragged canvas that is NaN outside the images."""
    sizes = torch.tensor([image.shape[:2] for image in images], dtype=torch.int32)
    pixels = torch.full((len(images), 3, *sizes.amax(0).tolist()), float("nan"))
    for place, image in zip(pixels, images, strict=True):
        place[:, : image.shape[0], : image.shape[1]] = torch.from_numpy(image).permute(2, 0, 1) / 255
    tables = torch.from_numpy(quality_tables(np.array(quality)))
    ours = launch(pixels.to(DEVICE), sizes.to(DEVICE), tables.to(DEVICE), **tiles).cpu() * 255
    found = 0
    for result, image, q in zip(ours, images, quality, strict=True):
        truth = libjpeg(image, q).transpose(2, 0, 1)
        found += int((result[:, : image.shape[0], : image.shape[1]].numpy() != truth).sum())
    return found


# one program an image: the interpreter's time is a program's, whatever its size
WHOLE = {"blocks": 64, "lanes": 2048}


def test_the_kernels_have_no_mismatch_with_libjpeg():
    sizes = [(1, 1), (7, 4), (8, 5), (17, 6), (16, 33), (33, 17)]
    quality = [100, 1, 50, 95, 10, 75]
    assert mismatches([hard(k, *size, k) for k, size in enumerate(sizes)], quality, **WHOLE) == 0


def test_the_shipped_tiles_cut_an_image_in_parts():
    # three programs of blocks, five of pixels
    assert mismatches([hard(0, 43, 50, 1)], [85]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("quality", range(1, 101))
def test_the_kernels_have_no_mismatch_at_any_quality(quality):
    draw = np.random.default_rng(quality)
    images = [hard(kind, *draw.integers(1, 40, 2), quality) for kind in range(6)]
    assert mismatches(images, [quality] * 6, **WHOLE) == 0


@pytest.mark.gpu
def test_the_kernels_have_no_mismatch_on_the_gpu():
    draw = np.random.default_rng(0)
    for quality in range(1, 101):
        images = [hard(kind, *draw.integers(1, 200, 2), quality) for kind in range(12)]
        assert mismatches(images, [quality] * 12) == 0
    assert mismatches([hard(kind, 512, 512, 0) for kind in range(6)], [1, 30, 60, 75, 90, 100]) == 0


def test_layouts_change_nothing():
    """A crop of a batch with the channels last: the same as a contiguous copy."""
    height, width = 11, 6
    whole = torch.rand(2, height + 3, width + 2, 3, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    crop = whole[:, :, 1 : height + 1, 1 : width + 1]
    sizes = torch.tensor([[height, width]] * 2, dtype=torch.int32)
    tables = torch.from_numpy(quality_tables(np.array([20, 80])))
    ours = launch(crop.to(DEVICE), sizes.to(DEVICE), tables.to(DEVICE), **WHOLE).cpu()
    assert torch.equal(ours, jpeg(crop.contiguous(), sizes.long(), tables, impl="reference"))


@pytest.mark.parametrize("quality", [1, 2, 24, 25, 49, 50, 51, 75, 99, 100])
def test_tables_are_those_that_libjpeg_writes(quality):
    code = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    zigzag = sorted(((y, x) for y in range(8) for x in range(8)), key=lambda p: (sum(p), p[1 - sum(p) % 2]))
    ours = quality_tables(np.array([quality]))[0]
    for number in (0, 1):
        start = code.index(b"\xff\xdb", 0) + 4 + 69 * number
        assert code[start] == number
        written = code[start + 1 : start + 65]
        assert [ours[number][place] for place in zigzag] == list(written)


def test_an_empty_batch_stays_empty():
    nothing = torch.zeros(0, 3, 8, 8)
    assert launch(nothing, torch.zeros(0, 2), torch.zeros(0, 2, 8, 8)).shape == (0, 3, 8, 8)


def test_wrong_shapes_are_named():
    sizes, tables = torch.ones(1, 2, dtype=torch.int32), torch.ones(1, 2, 8, 8)
    with pytest.raises(ValueError, match=r"jpeg: expected pixels \(b, 3, H, W\).*got \(1, 1, 8, 8\), \(1, 2\)"):
        jpeg(torch.zeros(1, 1, 8, 8), sizes, tables)
    with pytest.raises(ValueError, match=r"tables \(b, 2, 8, 8\), got .* and \(2, 8, 8\)"):
        jpeg(torch.zeros(1, 3, 8, 8), sizes, tables[0])
