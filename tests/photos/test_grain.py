"""A photograph's grain stays where a face is mended: as strong, as coarse, of the same colours; and nothing else."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.commands._restoring import _faces as reported
from codeprior.photos.faces import from_landmarks, template
from codeprior.photos.grain import STRONGEST, find_grain
from codeprior.photos.restoration import Choices, Restored, finish, prepare, restore_photo
from codeprior.photos.tints import find_tint
from codeprior.photos.upscaling import Upscaling
from codeprior.photos.video.frames import FrameRestorer
from codeprior.restorers import Restorer

_HEIGHT, _WIDTH, _SIDE = 300, 320, 180
_LEFT, _TOP = 70, 60  # of the face's crop
_INSIDE = (slice(_TOP + 40, _TOP + 140), slice(_LEFT + 40, _LEFT + 140))
_FADE = (slice(_TOP + 10, _TOP + 25), slice(_LEFT + 40, _LEFT + 140))  # weights from 0.15 to 0.85
_BESIDE = (slice(0, 54), slice(0, _WIDTH))
_FACES = from_landmarks([(template(_SIDE) + (_LEFT, _TOP)).tolist()])


class _Smooth:
    """A restorer whose answer holds no noise: means over 17 pixels; and then what is to be kept of the face."""

    size = 128

    def __init__(self, kept: float = 0.0):
        self.kept = kept

    def __call__(self, images):
        smooth = torch.nn.functional.avg_pool2d(images, 17, 1, 8, count_include_pad=False)
        return smooth + self.kept * (images - smooth)


def _wall() -> np.ndarray:
    """A wall in colour that is darker on the right, 8-bit levels, not rounded."""
    y, x = np.mgrid[:_HEIGHT, :_WIDTH]
    return np.stack([level - 30 * x / _WIDTH - 10 * y / _HEIGHT for level in (170.0, 160.0, 145.0)], -1)


def _field(coarse: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise of deviation 1, blurred by a Gaussian of `coarse` pixels."""
    noise = np.fft.rfft2(generator.standard_normal((_HEIGHT, _WIDTH)))
    radius = np.hypot(np.fft.fftfreq(_HEIGHT)[:, None], np.fft.rfftfreq(_WIDTH)[None])
    field = np.fft.irfft2(noise * np.exp(-2 * (np.pi * coarse * radius) ** 2), s=(_HEIGHT, _WIDTH))
    return field / field.std()


def _levels(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).round().astype(np.uint8)


def _grainy(levels: float, *, coarse: float = 0.0, colours: bool = False, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    fields = [_field(coarse, generator) for _ in range(3 if colours else 1)]
    return _levels(_wall() + levels * np.stack(fields, -1))


def _rest(pixels: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
    """What a place holds beside the wall: of three channels."""
    rest = pixels.astype(float) - _wall()
    return (rest - rest.mean((0, 1)))[place]


def _deviation(pixels: np.ndarray, place: tuple[slice, slice]) -> float:
    return float(_rest(pixels, place).mean(-1).std())


def _neighbours(pixels: np.ndarray, place: tuple[slice, slice], distance: int = 1) -> float:
    grey = _rest(pixels, place).mean(-1)
    return float((grey[:, distance:] * grey[:, :-distance]).mean() / grey.var())


def _restored(photo: np.ndarray, *, kept: float = 0.0, **choices) -> np.ndarray:
    return restore_photo(photo, _Smooth(kept), faces=_FACES, choices=Choices(**choices)).pixels


@pytest.mark.parametrize(("levels", "coarse"), [(2.5, 0.0), (5.0, 0.0), (4.0, 0.9), (5.0, 1.6)])
def test_flat_places_of_a_mended_face_are_as_grainy_as_those_beside_it(levels, coarse):
    """Of a coarse grain some 60 waves fit into such a place, so deviations vary by a tenth."""
    photo = _grainy(levels, coarse=coarse)
    done, smooth = _restored(photo), _restored(photo, grain=0)
    beside = _deviation(photo, _BESIDE)
    assert _deviation(smooth, _INSIDE) < 0.5 * beside
    for place in (_INSIDE, _FADE):
        assert abs(_deviation(done, place) / beside - 1) < (0.1 if coarse < 1 else 0.2)
    # and as coarse as those
    for distance in (1, 2):
        assert abs(_neighbours(done, _INSIDE, distance) - _neighbours(photo, _BESIDE, distance)) < 0.08


def test_grain_in_colour_comes_back_in_colour_and_other_grain_without():
    for colours in (True, False):
        photo = _grainy(4, colours=colours)
        done = _restored(
            photo, tint=False
        )  # else this wall, whose colours follow its brightness, counts as one of a tint
        for place in (_INSIDE, _BESIDE):
            rest = _rest(done, place)
            share = (rest - rest.mean(-1, keepdims=True)).std() / rest.std()
            # two of the three axes of independent channels; without colours what rounding to levels leaves
            assert abs(share - (2 / 3) ** 0.5) < 0.05 if colours else share < 0.12


@pytest.mark.parametrize("levels", [0.0, 0.8])
def test_a_clean_photograph_keeps_its_bytes(levels):
    photo = _grainy(levels)
    assert np.array_equal(_restored(photo), _restored(photo, grain=0))
    assert np.array_equal(_restored(photo, grain=1), _restored(photo, grain=0))


def test_detail_is_no_grain():
    """A field that is strong everywhere, with the spectrum of pictures, whose power falls with the third power."""
    generator = np.random.default_rng(0)
    radius = np.hypot(np.fft.fftfreq(_HEIGHT)[:, None], np.fft.rfftfreq(_WIDTH)[None])
    radius[0, 0] = 1
    detail = np.fft.irfft2(
        np.fft.rfft2(generator.standard_normal((_HEIGHT, _WIDTH))) * radius**-1.5, s=(_HEIGHT, _WIDTH)
    )
    photo = _levels(128 + 20 * (detail / detail.std())[..., None] * np.ones(3))
    assert find_grain(_unit(photo)) is None
    assert np.array_equal(_restored(photo), _restored(photo, grain=0))


def _unit(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1).float() / 255


def test_heavy_noise_comes_back_in_part_and_as_asked_for():
    photo = _grainy(16)
    assert abs(_deviation(_restored(photo), _INSIDE) / STRONGEST - 1) < 0.1
    for share in (0.5, 1):
        assert abs(_deviation(_restored(photo, grain=share), _INSIDE) / (16 * share) - 1) < 0.1


def test_only_what_is_missing_is_added():
    photo = _grainy(5)
    for kept in (0.0, 0.5, 0.8):
        assert abs(_deviation(_restored(photo, kept=kept), _INSIDE) / _deviation(photo, _BESIDE) - 1) < 0.1
    same = _Smooth(1.0)
    same.size = _SIDE  # nothing is resampled
    with_grain, without = (
        restore_photo(photo, same, faces=_FACES, choices=Choices(grain=grain)).pixels for grain in ("auto", 0)
    )
    assert np.array_equal(with_grain, without)


def test_grain_is_as_strong_as_at_that_brightness():
    strength = np.linspace(2, 5, _WIDTH)[None, :, None]
    wall = np.linspace(60, 200, _WIDTH)[None, :, None] * np.ones((_HEIGHT, 1, 3))
    photo = _levels(wall + strength * _field(0, np.random.default_rng(0))[..., None])
    done = _restored(photo)
    for columns in (slice(_LEFT + 35, _LEFT + 65), slice(_LEFT + 115, _LEFT + 145)):
        place = (slice(_TOP + 40, _TOP + 140), columns)
        rest = (done - wall)[place].mean(-1)
        # strength is known for six groups of brightness and between them
        assert abs(rest.std() / strength[0, columns].mean() - 1) < 0.15


def test_grey_stays_grey_and_a_tint_stays_that_tint():
    grey = _levels(_wall().mean(-1, keepdims=True) + 5 * _field(0.5, np.random.default_rng(0))[..., None] * np.ones(3))
    done = _restored(grey)
    assert not np.array_equal(done, _restored(grey, grain=0))
    assert (done == done[..., :1]).all()
    luma = torch.from_numpy(grey[..., 0]).float()[None] / 255
    sepia = torch.stack([luma + 0.09 - 0.05 * luma, luma, luma - 0.1 + 0.06 * luma], 1)
    tinted = _levels(sepia[0].permute(1, 2, 0).numpy() * 255)
    done, tint = _restored(tinted), find_tint(_unit(tinted))
    assert not np.array_equal(done, _restored(tinted, grain=0))
    assert tint is not None
    assert np.abs(_levels(tint.over(_unit(done)[None])[0].permute(1, 2, 0).numpy() * 255).astype(int) - done).max() <= 2


def test_nothing_changes_outside_the_mask_and_an_aligned_face_gets_no_grain():
    photo = _grainy(5, colours=True)
    smooth, done = _restored(photo, grain=0), _restored(photo)
    outside = np.ones((_HEIGHT, _WIDTH), bool)
    outside[_TOP + 4 : _TOP + _SIDE - 4, _LEFT + 4 : _LEFT + _SIDE - 4] = False  # the border of the crop weighs nothing
    assert (done[outside] == photo[outside]).all()
    assert not np.array_equal(done, smooth)
    prepared = prepare(photo, None, size=128, choices=Choices(), faces=_FACES)
    restored = restore_photo(photo, _Smooth(), faces=_FACES)
    left = torch.zeros(128, 128)
    left[:, :64] = 1
    given = Restored(_Smooth()(torch.stack([crop.image for crop in prepared.crops])))
    half = finish(prepared, given, choices=Choices(), mask=lambda _: left).pixels
    edge = _LEFT + _SIDE // 2 + 3
    assert (half[:, edge:] == photo[:, edge:]).all()
    assert (restored.pixels[:, edge:] != photo[:, edge:]).any()
    square = photo[:, :_HEIGHT]
    assert np.array_equal(_restored(square, aligned=True), _restored(square, aligned=True, grain=0))


def test_the_same_photograph_gives_the_same_bytes_whatever_the_threads():
    photo = _grainy(5, colours=True)
    once, threads = _restored(photo), torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert np.array_equal(_restored(photo), once)
    finally:
        torch.set_num_threads(threads)
    other = _grainy(5, colours=True, seed=1)
    added, beside = (_restored(p).astype(int) - _restored(p, grain=0) for p in (photo, other))
    assert abs(np.corrcoef(added[_INSIDE].ravel(), beside[_INSIDE].ravel())[0, 1]) < 0.05


def test_a_photograph_of_sixteen_bits_gets_it_too():
    photo = _grainy(5)
    deep = photo.astype(np.uint16) * 257
    prepared = prepare(photo, None, size=128, choices=Choices(), faces=_FACES)
    given = Restored(_Smooth()(torch.stack([crop.image for crop in prepared.crops])))
    done = finish(prepared, given, choices=Choices(), deep=deep)
    assert done.deep is not None and (done.deep[_BESIDE] == deep[_BESIDE]).all()
    assert abs(_deviation(done.deep / 257, _INSIDE) / _deviation(photo, _BESIDE) - 1) < 0.1


def test_an_enlarged_photograph_has_the_grain_of_what_lies_around():
    photo = _grainy(5)
    prepared = prepare(photo, None, size=128, choices=Choices(), faces=_FACES)
    given = Restored(_Smooth()(torch.stack([crop.image for crop in prepared.crops])))
    done = finish(prepared, given, choices=Choices(), upscaling=Upscaling(2)).pixels.astype(float)

    def deviation(place) -> float:
        part = done[tuple(slice(2 * side.start, 2 * side.stop) for side in place)].mean(-1)
        return float(
            (part - np.stack([np.linspace(row[:20].mean(), row[-20:].mean(), len(row)) for row in part])).std()
        )

    # half of the frequencies are empty, and all of it is within a fifth
    assert abs(deviation(_INSIDE) / deviation(_BESIDE) - 1) < 0.2


def test_the_grid_of_jpeg_does_not_come_back():
    buffer = BytesIO()
    Image.fromarray(_grainy(9, coarse=0.7)).save(buffer, "JPEG", quality=40)
    photo = np.array(Image.open(buffer))
    added = (_restored(photo, grain=1).astype(float) - _restored(photo, grain=0)).mean(-1)
    assert added.std() > 0.5

    def grid(values: np.ndarray) -> float:
        """How much larger steps between blocks are than those in them."""
        steps = np.abs(np.diff(values, axis=1))
        columns = np.arange(steps.shape[1]) % 8
        return float(steps[:, columns == 7].mean() / steps[:, columns != 7].mean())

    columns = slice(_LEFT // 8 * 8 + 40, _LEFT // 8 * 8 + 136)
    assert grid(photo[:, columns].astype(float).mean(-1)) > 1.15
    assert abs(grid(added[_INSIDE[0], columns]) - 1) < 0.05


def test_a_report_says_how_much_came_back():
    photo = _grainy(5)
    done = restore_photo(photo, _Smooth(), faces=_FACES)
    assert abs(done.grain[0] / 5 - 1) < 0.1
    (face,) = reported(done)
    assert face["grain"] == round(done.grain[0], 2)
    plain = restore_photo(photo, _Smooth(), faces=_FACES, choices=Choices(grain=0))
    assert plain.grain == [0.0]
    assert "grain" not in reported(plain)[0]


def test_a_video_gets_grain_only_where_a_number_asks_for_it():
    photo = _grainy(5)
    answers = {}
    for grain in ("auto", 0, 1.0):
        video = FrameRestorer(_Smooth(), lambda photo: _FACES, choices=Choices(grain=grain))
        answers[grain], faces = video(photo)
        assert faces == 1
    assert np.array_equal(answers["auto"], answers[0])
    assert abs(_deviation(answers[1.0], _INSIDE) / _deviation(photo, _BESIDE) - 1) < 0.1


def test_a_restorer_hands_the_share_on():
    class Half(torch.nn.Module):
        size = 128

        def restore(self, signed):
            return torch.nn.functional.avg_pool2d(signed, 17, 1, 8, count_include_pad=False)

    photo, restorer = _grainy(5), Restorer(Half())
    given = {
        grain: restorer.photograph(photo, faces=_FACES, always=True, grain=grain) for grain in (None, "auto", 0, 0.5)
    }
    assert np.array_equal(given[None], given["auto"])
    assert (
        _deviation(given[0], _INSIDE)
        < 1
        < 2
        < _deviation(given[0.5], _INSIDE)
        < 3
        < 4
        < _deviation(given[None], _INSIDE)
    )


@pytest.mark.parametrize("wrong", ["much", -0.1, 1.5, float("nan")])
def test_a_wrong_share_of_grain_is_refused(wrong):
    with pytest.raises(ValueError, match="Choices: grain must be auto or a number from 0 to 1, got"):
        Choices(grain=wrong)
