"""One photograph restored: what is asked for, what is refused, and geometry without a seam."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeprior.estimators import Damage
from codeprior.photos.bands import Crossover
from codeprior.photos.decisions import Decision, decide
from codeprior.photos.faces import (
    Crop,
    NoFaceError,
    align,
    from_landmarks,
    invert,
    match_colour,
    paste,
    template,
    transform,
)  # fmt: skip
from codeprior.photos.restoration import Choices, Restored, answer, finish, prepare, restore_photo
from codeprior.photos.sheets import comparison, heat, uncertainty_map


class _Gives:
    """A restorer that adds to every value."""

    size = 64

    def __init__(self, add: float = 0.0):
        self.add = add

    def __call__(self, images):
        return (images + self.add).clamp(0, 1)

    def examine(self, images):
        return Restored(self(images), torch.linspace(0, 1, 16).view(1, 4, 4).expand(len(images), 4, 4))


class _Red:
    """A restorer that makes every face one red, and mends what a blur took above 6 cycles a face."""

    size = 64

    def __call__(self, images):
        return torch.tensor([0.9, 0.2, 0.2]).view(1, 3, 1, 1).expand_as(images).clone()

    def judge(self, face, *, side, fidelity, always):
        crossover = None if always else Crossover(transfer=6.0, reach=12.0)
        return Decision("restored" if always else "mended", "told so", side, crossover=crossover)


def _smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 31), np.cos(y / 37), np.sin((x + y) / 41)]
    return np.stack([128 + 80 * wave for wave in waves], -1).round().astype(np.uint8)


def _faces(side: float, x: float = 0, y: float = 0):
    return from_landmarks([(template(512) * side / 512 + (x, y)).tolist()])


@settings(max_examples=20, deadline=None)
@given(side=st.floats(75, 180), x=st.floats(-40, 120), y=st.floats(-40, 120), size=st.sampled_from([64, 128]))
def test_an_unrestored_face_changes_nothing_visible(side, x, y, size):
    """Also where the crop hangs over the edge. Waves of 195 pixels, resampled twice: rounding and a level."""
    photo = _smooth(200, 210)
    restorer = _Gives()
    restorer.size = size
    done = restore_photo(photo, restorer, faces=_faces(side, x, y))
    assert np.abs(done.pixels.astype(int) - photo).max() <= 2
    assert done.pixels is not photo


@settings(max_examples=20, deadline=None)
@given(angle=st.floats(-0.8, 0.8), side=st.floats(75, 160), add=st.sampled_from([-0.3, 0.25]))
def test_a_much_brighter_face_leaves_no_seam(angle, side, add):
    """On a plain ground the pasted face must rise as the mask does: no step between neighbours beyond its slope."""
    photo = np.full((220, 220, 3), 120, np.uint8)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (template(512) - 255.5) @ turn.T * side / 512 + 110
    done = restore_photo(photo, _Gives(add), faces=from_landmarks([points.tolist()])).pixels.astype(float)
    # smoothstep rises by 1.5 over 0.14 of the side, a diagonal neighbour is 1.42 pixels away; two levels of rounding
    slope = abs(add) * 255 * 1.5 / (0.14 * side) * 1.42 + 2
    assert max(np.abs(np.diff(done, axis=0)).max(), np.abs(np.diff(done, axis=1)).max()) <= slope
    assert abs(done[110, 110, 0] - (120 + add * 255)) < 2
    assert (done[0] == 120).all()


def test_strength_blends_and_colour_is_matched():
    photo = _smooth(160, 160)
    faces = _faces(150)
    full = restore_photo(photo, _Gives(0.4), faces=faces).after
    half = restore_photo(photo, _Gives(0.4), faces=faces, choices=Choices(strength=0.5))
    assert torch.allclose(half.after[0], (half.before[0] + full[0]) / 2, atol=1e-6)
    matched = restore_photo(photo, _Gives(0.2), faces=faces, choices=Choices(colour=True))
    middle = (slice(None), slice(16, 48), slice(16, 48))
    assert (matched.after[0] - matched.before[0])[middle].mean((-2, -1)).abs().max() < 0.02
    assert (full[0] - half.before[0])[middle].mean() > 0.2


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 0.8), st.floats(0.05, 0.15), st.integers(0, 9))
def test_matched_colours_have_the_mean_of_the_reference(mean, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    reference = (mean + spread * torch.randn(1, 3, 48, 48, generator=generator)).clamp(0, 1)
    restored = (0.5 + 0.1 * torch.randn(1, 3, 48, 48, generator=generator)).clamp(0, 1)
    matched = match_colour(restored, reference)
    inner = (slice(None), slice(None), slice(12, 36), slice(12, 36))
    # the weights fade outside the middle, and values are clamped
    assert (matched[inner].mean((-2, -1)) - reference[inner].mean((-2, -1))).abs().max() < 0.03


def test_a_parsers_mask_leaves_what_it_excludes():
    photo = _smooth(160, 160)
    crop = align(photo, _faces(150)[0].points, size=64)
    left = torch.zeros(64, 64)
    left[:, :32] = 1
    white = Crop(torch.ones(3, 64, 64), crop.matrix)
    pasted = paste(photo, [white], mask=lambda _: left)
    changed = np.abs(pasted.astype(int) - photo).max(2) > 0
    assert changed[:, :70].any()
    assert not changed[:, 80:].any()


def test_small_and_doubtful_faces_are_left_out_with_a_reason():
    photo = _smooth(100, 100)
    doubtful = [face._replace(score=0.4) for face in _faces(90)]
    with pytest.raises(NoFaceError, match=r"of 1 found: 1 below the least score 0.9 \(best 0.40; a lower score"):
        restore_photo(photo, _Gives(), faces=doubtful)
    # 30 pixels of the template have 7.4 between the eyes
    with pytest.raises(NoFaceError, match=r"of 1 found: 1 with eyes less than 16 pixels apart \(at most 7.3; a lower"):
        restore_photo(photo, _Gives(), faces=_faces(30))
    with pytest.raises(NoFaceError, match=r"of 2 found: 1 below .* \(best 0.40; .* 1 with eyes less than 16 pixels"):
        restore_photo(photo, _Gives(), faces=[*doubtful, *_faces(30)])
    with pytest.raises(NoFaceError, match=r"no face was found; mark it by hand \(landmarks\), or give .* \(aligned\)"):
        restore_photo(photo, _Gives(), detector=lambda _: [])
    with pytest.raises(ValueError, match="give a detector, the faces, or choices with aligned=True"):
        restore_photo(photo, _Gives())


def test_unusable_answers_of_a_restorer_are_refused():
    photo = _smooth(100, 100)
    prepared = prepare(photo, None, size=64, choices=Choices(), faces=_faces(90))
    with pytest.raises(ValueError, match=r"gave images of shape \(1, 3, 8, 9\), expected \(1, 3, size, size\)"):
        finish(prepared, Restored(torch.zeros(1, 3, 8, 9)), choices=Choices())
    with pytest.raises(ValueError, match="values that are not finite"):
        finish(prepared, Restored(torch.full((1, 3, 64, 64), torch.nan)), choices=Choices())
    with pytest.raises(ValueError, match="function cannot say how sure it is"):
        answer(lambda images: images, torch.zeros(1, 3, 64, 64), uncertainty=True)


def test_aligned_pictures_are_the_whole_face():
    done = restore_photo(_smooth(90, 80), _Gives(), choices=Choices(aligned=True), uncertainty=True)
    assert done.pixels.shape == (64, 64, 3)
    with pytest.raises(ValueError, match="300×100 pixels, too far from a square"):
        restore_photo(_smooth(100, 300), _Gives(), choices=Choices(aligned=True))


def test_sheets_show_faces_and_doubt():
    photo = _smooth(100, 120)
    prepared = prepare(photo, None, size=64, choices=Choices(), faces=_faces(90))
    images = torch.stack([crop.image for crop in prepared.crops])
    done = finish(prepared, _Gives(0.1).examine(images), choices=Choices())
    assert comparison(prepared, done).shape[1] == 2 * 768 + 8
    doubt = uncertainty_map(prepared, done)
    assert doubt.shape == photo.shape
    assert doubt[55, 55].tolist() != doubt[55, 55, :1].tolist() * 3  # in colour over the face
    assert len(set(doubt[99, 119].tolist())) == 1  # grey outside
    brightness = heat(torch.linspace(0, 1, 50)[None]).mean(0)[0]
    assert (brightness.diff() > 0).all()
    with pytest.raises(ValueError, match="holds no uncertainty"):
        uncertainty_map(prepared, done._replace(uncertainty=None))


@pytest.mark.parametrize(
    "wrong", [{"strength": 1.5}, {"strength": -0.1}, {"faces": "best"}, {"faces": "-1"}, {"fidelity": 2}]
)
def test_choices_are_checked(wrong):
    with pytest.raises(ValueError, match="Choices: "):
        Choices(**wrong)


@settings(max_examples=10, deadline=None)
@given(angle=st.floats(-0.8, 0.8), side=st.floats(75, 160))
def test_a_mended_face_meets_the_photograph_in_luminance_and_colour(angle, side):
    """In a ring of 4 % of the side inside the crop's edge, and over the whole face on the average."""
    photo = _smooth(220, 220)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (template(512) - 255.5) @ turn.T * side / 512 + 110
    faces = from_landmarks([points.tolist()])
    matrix = align(photo, faces[0].points, size=64).matrix
    y, x = np.mgrid[:220, :220]
    at = transform(np.stack([x, y], -1).reshape(-1, 2).astype(float), invert(matrix)).reshape(220, 220, 2)
    inside = np.minimum(at + 0.5, 63.5 - at).min(-1) / 64  # shares of the side to the nearest edge
    ring, middle = (inside > 0.03) & (inside < 0.07), inside > 0.1
    luma = np.array([0.299, 0.587, 0.114])
    apart = {}
    for always in (False, True):
        done = restore_photo(photo, _Red(), faces=faces, choices=Choices(always=always)).pixels
        difference = done.astype(float) - photo
        assert (difference[inside < 0] == 0).all()
        apart[always] = np.abs(difference[middle].mean(0)).max()
        if not always:
            assert np.abs(difference[ring].mean(0)).max() < 1
            assert np.abs(difference[ring] @ luma).max() < 3
    assert apart[False] < 2
    assert apart[True] > 40  # what the model itself says is far from it


def test_faces_of_one_tint_are_restored_in_it():
    grey = _smooth(160, 160)[..., :1].repeat(3, axis=2)
    warm = (
        np.stack([0.85 * grey[..., 0] + 35, 0.8 * grey[..., 1] + 20, 0.75 * grey[..., 2]], -1).round().astype(np.uint8)
    )
    for photo in (grey, warm):
        done = restore_photo(photo, _Red(), faces=_faces(150), choices=Choices(always=True)).pixels.astype(float)
        assert np.abs(done - photo).max() > 20
        # red minus blue of the photograph is a straight line of its luma, and so is that of the result
        line = np.polyfit(
            *(lambda p: (p @ [0.299, 0.587, 0.114], p[:, 0] - p[:, 2]))(photo.reshape(-1, 3).astype(float)), 1
        )
        luma, colour = done @ [0.299, 0.587, 0.114], done[..., 0] - done[..., 2]
        assert np.abs(colour - np.polyval(line, luma)).max() < 3
        free = restore_photo(photo, _Red(), faces=_faces(150), choices=Choices(always=True, tint=False)).pixels
        assert np.abs(free[80, 80].astype(int) - [230, 51, 51]).max() <= 1


def test_a_left_face_costs_no_network():
    class Leaves(_Gives):
        def __call__(self, images):
            raise AssertionError("the network was asked")

        def judge(self, face, *, side, fidelity, always):
            return Decision("left", "good enough", side)

    photo = _smooth(160, 160)
    done = restore_photo(photo, Leaves(), faces=_faces(150))
    assert np.array_equal(done.pixels, photo)
    assert done.untouched
    prepared = prepare(photo, None, size=64, choices=Choices(), faces=_faces(150), judge=Leaves().judge)
    assert comparison(prepared, done).shape[1] > 1000
    assert np.array_equal(uncertainty_map(prepared, done)[..., 0], photo.mean(2).round().astype(np.uint8))


def test_a_model_may_give_larger_faces_than_it_takes():
    class Larger(_Gives):
        def __call__(self, images):
            return torch.nn.functional.interpolate(images, scale_factor=3.0, mode="bicubic").clamp(0, 1)

    photo = _smooth(200, 200)
    done = restore_photo(photo, Larger(), faces=_faces(150))
    assert done.after[0].shape == (3, 192, 192)
    assert np.abs(done.pixels.astype(int) - photo).max() <= 3


def test_a_left_face_keeps_its_bytes_beside_a_restored_one_that_overlaps_it():
    class Smaller(_Gives):
        def judge(self, face, *, side, fidelity, always):
            return Decision("left" if side < 100 else "restored", "told so", side)

    photo = _smooth(220, 260)
    faces = [*_faces(90, 130, 60), *_faces(140, 5, 20)]
    done = restore_photo(photo, Smaller(0.4), faces=faces)
    assert [decision.action for decision in done.decisions if decision] == ["left", "restored"]
    # the crops overlap from 130 to 145; a place belongs to the face that is nearer, in sides of each
    assert np.array_equal(done.pixels[95:115, 140:210], photo[95:115, 140:210])
    assert np.array_equal(done.pixels[70:140, 150:210], photo[70:140, 150:210])
    assert (done.pixels[90, 75].astype(int) - photo[90, 75] > 40).all()


def test_a_small_sharp_face_keeps_every_pixel_unless_the_result_is_larger():
    """A model of 128 px could add to a face of 50 pixels, but pasted back at 50 pixels nothing of it can be seen."""

    class Judges(_Gives):
        size = 128

        def judge(self, face, *, side, fidelity, always):
            figures = {"blur": 0.0, "reduction": 1.0, "noise": 0.0, "quality": 100.0, "limit": 0.5}
            damage = Damage(**{name: torch.tensor([value]) for name, value in figures.items()})
            return decide(damage, side=side, size=self.size, fidelity=fidelity, always=always)

    photo, restorer, choices = _smooth(100, 100), Judges(0.3), Choices(smallest=5)
    done = restore_photo(photo, restorer, faces=_faces(50, 20, 20), choices=choices)
    assert done.untouched and np.array_equal(done.pixels, photo)
    words = {"size": 128, "choices": choices, "faces": _faces(50, 20, 20), "judge": restorer.judge}
    assert prepare(photo, None, **words).asked == []
    assert prepare(photo, None, **words, enlarged=True).asked == [0]
