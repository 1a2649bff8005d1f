import numpy as np
import pytest
import skimage.data
import torch

from codeprior.metrics import niqe, pristine


def _image(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        # calculate_niqe of BasicSR 1.4.2 (crop_border=0, convert_to="y") on these pictures
        (lambda: skimage.data.astronaut(), 3.0649476661847754),
        (lambda: skimage.data.chelsea(), 2.6255243812915023),
        (lambda: np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8), 34.15827057733322),
    ],
    ids=["astronaut", "cat", "noise"],
)
def test_figures_agree_with_basicsr(pixels, expected):
    # its half-size image is float32 throughout, which moves flat parts of a picture by 5e-4 at most
    assert niqe(_image(pixels())).item() == pytest.approx(expected, rel=1e-3)


def test_a_batch_gives_what_its_images_give():
    first = _image(skimage.data.astronaut()[:200, :200])
    second = _image(skimage.data.astronaut()[100:300, 100:300])
    together = niqe(torch.cat([first, second]))
    assert together.tolist() == [niqe(first).item(), niqe(second).item()]


def test_a_constant_image_has_no_figure():
    assert niqe(torch.full((1, 3, 192, 192), 0.5)).isnan().all()


def test_one_block_is_refused():
    with pytest.raises(ValueError, match="at least two blocks of 96×96 pixels, got 128×128; a covariance needs two"):
        niqe(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match="an even block"):
        niqe(torch.zeros(1, 3, 128, 128), block=7)


def test_the_pristine_statistics_are_the_published_file(tmp_path):
    found = pristine()
    assert found.record.sha256 == "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"
    assert (found.mean.shape, found.covariance.shape) == ((36,), (36, 36))
    (tmp_path / "other.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="begins 2a7c182a68c9e7f1"):
        pristine(tmp_path / "other.npz")
