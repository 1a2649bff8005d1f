"""Enlarged photographs have no seams between tiles, and their faces where and as sharp as they should be."""

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from codeprior.photos.faces import Crop, Face, at_side, template
from codeprior.photos.restoration import Choices, Restored, finish, prepare
from codeprior.photos.upscaling import Upscaling, check_size, enlarged, scaled_crop
from tests.photos.making import scene


class _Network(nn.Module):
    """Convolutions that see six pixels around each, and then enlarge."""

    def __init__(self, scale: int):
        super().__init__()
        self.scale, self.largest = scale, 0
        generator = torch.Generator().manual_seed(0)
        self.weights = [torch.rand(3, 3, 5, 5, generator=generator) / 75 for _ in range(3)]

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.largest = max(self.largest, image.shape[2] * image.shape[3])
        for weight in self.weights:
            image = F.conv2d(F.pad(image, (2,) * 4), weight).sqrt()
        return F.interpolate(image, scale_factor=self.scale, mode="nearest")


@given(st.integers(9, 60), st.integers(9, 60), st.sampled_from([2, 4]), st.sampled_from([8, 13, 64]))
def test_tiles_leave_no_seam(height, width, scale, tile):
    pixels, network = scene(height, width), _Network(scale)
    around = 6
    # the whole picture at once, with the same mirrored surroundings
    framed = np.pad(pixels, ((around, around), (around, around), (0, 0)), mode="reflect")
    whole = network(rearrange(torch.from_numpy(framed), "h w c -> 1 c h w").float() / 255)[0]
    inner = whole[:, around * scale : -around * scale, around * scale : -around * scale]
    truth = rearrange((inner.clamp(0, 1) * 255).round().byte(), "c h w -> h w c").numpy()
    found = enlarged(pixels, Upscaling(scale, network), tile=tile, around=around)
    assert found.shape == truth.shape == (height * scale, width * scale, 3)
    assert np.abs(found.astype(int) - truth).max() <= 1  # sums in another order, rounded to levels


def test_a_large_photograph_is_given_in_tiles_and_other_scales_are_brought_to_the_one_asked_for():
    pixels, network = scene(300, 200), _Network(4)
    found = enlarged(pixels, Upscaling(2, network), tile=64, around=8)
    assert found.shape == (600, 400, 3) and network.largest <= 80 * 80
    twice = enlarged(pixels, Upscaling(2, _Network(2)), tile=64, around=8)
    assert np.abs(found.astype(int) - twice).mean() < 1.5  # the same network, and antialiasing of its edges


def test_plain_resampling_keeps_places_and_levels():
    flat = np.full((9, 7, 3), 131, np.uint8)
    assert (enlarged(flat, Upscaling(4)) == 131).all()
    y, x = np.mgrid[:40, :56]
    ramp = np.stack([x * 4, y * 6, x + y], -1).astype(np.uint8)
    found = enlarged(ramp, Upscaling(2))[20:60, 20:92]
    rows, columns = np.mgrid[20:60, 20:92]
    # pixel edges are scaled: the middle of a new pixel lies at (n + 1/2) / 2 - 1/2
    assert np.abs(found[..., 0] - ((columns + 0.5) / 2 - 0.5) * 4).max() <= 1
    assert np.abs(found[..., 1] - ((rows + 0.5) / 2 - 0.5) * 6).max() <= 1
    assert enlarged(ramp[..., 0], Upscaling(2)).shape == (80, 112)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_face_lands_at_its_place_and_is_as_sharp_as_the_network_made_it(factor):
    photo = np.full((200, 240, 3), 90, np.uint8)
    face = Face(np.array([60.0, 40, 180, 160]), template(512) / 4 + 50, 1.0)
    choices = Choices(colour=False, tint=False)
    prepared = prepare(photo, None, size=256, choices=choices, faces=[face])
    stripes = (torch.arange(256) // 2 % 2).float().expand(1, 3, 256, 256).contiguous()
    done = finish(prepared, Restored(stripes), choices=choices, upscaling=Upscaling(factor))
    assert done.pixels.shape == (200 * factor, 240 * factor, 3)
    corner = np.array([[1, 1]]) * 50 * factor
    middle = (corner + 64 * factor).astype(int)[0]
    inner = done.pixels[middle[1] - 10 : middle[1] + 10, middle[0] - 30 : middle[0] + 30, 0].astype(int)
    assert inner.min() < 40 and inner.max() > 215  # stripes of one pixel of the photograph: lost without enlarging
    assert (done.pixels[: 20 * factor] == 90).all()


def test_a_crop_moves_with_the_edges_of_its_pixels():
    crop = Crop(torch.zeros(3, 8, 8), np.array([[1.0, 0, 3], [0, 1.0, 5]]))
    matrix = scaled_crop(crop, 4).matrix
    # the crop's own pixels are four of the new photograph's; its left upper edge is (3 - 1/2, 5 - 1/2) times four
    assert np.allclose(matrix @ [-0.5, -0.5, 1], [4 * 3 - 0.5, 4 * 5 - 0.5])
    assert np.allclose(at_side(matrix, 8, 32)[:, :2], np.eye(2))


def test_errors_say_what_was_wrong():
    with pytest.raises(ValueError, match="would have 40000×40000 pixels when enlarged, more than the 256 million"):
        check_size(10000, 10000, 4)

    class Odd(_Network):
        def forward(self, image):
            return super().forward(image)[..., 1:]

    with pytest.raises(ValueError, match=r"gave \(1, 3, 48, 47\), expected \(1, 3, 48, 48\)"):
        enlarged(scene(8, 8), Upscaling(2, Odd(2)), around=8)


def test_the_command_enlarges_photographs(tmp_path, capsys):
    from PIL import Image

    from codeprior.__main__ import main

    astronaut = pytest.importorskip("skimage.data").astronaut()[:240, 110:350]
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--upscale", "2", "--always"]) == 0
    assert Image.open(tmp_path / "b.png").size == (480, 480)
    capsys.readouterr()
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "c.png"), "--background", "x.pth"]) == 2
    assert "give --upscale 2 or 4 with it" in capsys.readouterr().err
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "c.png"), "--upscale", "2", "--compare"]) == 2
    assert "leave --compare out" in capsys.readouterr().err
    given = ["restore", str(tmp_path / "a.png"), str(tmp_path / "c.png"), "--upscale", "2", "--background", "x.pth"]
    assert main(given) == 2
