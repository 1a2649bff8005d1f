"""`codeprior restore --task`: what is masked is drawn anew, everything else stays to the bit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codeprior import save
from codeprior.__main__ import main
from codeprior.photos.faces import from_landmarks, template, transform
from codeprior.photos.files import read, write
from codeprior.photos.filling import fill_photo
from codeprior.photos.preparation import Choices
from codeprior.restorers.tasks import colourise, inpaint
from tests import small_families as small

_DESCRIPTION = 0x010E  # the tag of EXIF


def _face(side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [16, 23])
def test_surroundings_stay_to_the_bit_and_the_area_changes(side):
    model, face = small.codeformer(task="inpainting"), _face(side)
    mask = np.zeros((side, side), dtype=bool)
    mask[4:9, 5:11] = True
    answer = inpaint(model, face, mask)
    assert np.array_equal(answer[~mask], face[~mask]) and (answer[mask] != face[mask]).any()
    # what is hidden is not looked at
    other = face.copy()
    other[mask] = 7
    assert np.array_equal(inpaint(model, other, mask), answer)


def test_pure_white_is_the_mask_where_none_is_given():
    model, face = small.codeformer(task="inpainting"), _face()
    face[2:6, 2:6] = 255
    face[9, 9] = (255, 255, 254)  # not pure
    mask = np.zeros((16, 16), dtype=bool)
    mask[2:6, 2:6] = True
    assert np.array_equal(inpaint(model, face), inpaint(model, face, mask))


def test_what_cannot_be_done_is_said():
    face, mask = _face(), np.zeros((16, 16), dtype=bool)
    with pytest.raises(ValueError, match="the weights are for restoration; give it weights for inpainting"):
        inpaint(small.codeformer(), face)
    with pytest.raises(ValueError, match="nothing is masked; give a mask, or paint the area white"):
        inpaint(small.codeformer(task="inpainting"), face, mask)
    with pytest.raises(ValueError, match=r"the mask is \(4, 4\), the face \(16, 16\)"):
        inpaint(small.codeformer(task="inpainting"), face, mask[:4, :4])
    with pytest.raises(
        ValueError, match=r"expected an aligned, square face H W 3 of 8-bit levels, got uint8 \(16, 8, 3\)"
    ):
        colourise(small.codeformer(task="colourisation"), face[:, :8])


def test_colours_come_where_they_are_wanted():
    model, face = small.codeformer(task="colourisation"), _face()
    whole = colourise(model, face)
    mask = np.zeros((16, 16), dtype=bool)
    mask[:8] = True
    part = colourise(model, face, mask)
    assert np.array_equal(part[:8], whole[:8]) and np.array_equal(part[8:], face[8:])


def test_the_command_fills_what_a_mask_file_shows(tmp_path: Path, capsys):
    save(tmp_path / "fill.safetensors", small.codeformer(task="inpainting"))
    face, mask = _face(), np.zeros((16, 16, 3), dtype=np.uint8)
    mask[4:9, 5:11] = 255
    write(tmp_path / "face.png", face), write(tmp_path / "mask.png", mask)
    call = ["restore", str(tmp_path / "face.png"), str(tmp_path / "out.png"), "--task", "inpaint"]
    weights = ["--weights", str(tmp_path / "fill.safetensors"), "--mask", str(tmp_path / "mask.png")]
    assert main([*call[:4], "colourise", *weights]) == 2
    said = capsys.readouterr().err
    assert "--task colourise works on faces that are aligned already" in said and "say so with --aligned" in said
    assert main([*call, *weights, "--aligned"]) == 0
    answer = read(tmp_path / "out.png").pixels
    hidden = mask[..., 0] > 0
    assert np.array_equal(answer[~hidden], face[~hidden]) and (answer[hidden] != face[hidden]).any()
    assert main([*call[:3], "--task", "swap", *weights, "--aligned"]) == 2
    assert "codeformer has no task 'swap'; it has inpaint, colourise.\n" in capsys.readouterr().err
    assert main([*call[:3], "--task", "inpaint", "--aligned"]) == 2
    said = capsys.readouterr().err
    assert "daefr has no task 'inpaint'; it has none. Families that have it, with --weights: codeformer" in said
    assert main([*call[:3], "--mask", str(tmp_path / "mask.png")]) == 2
    assert "--mask says where a --task draws" in capsys.readouterr().err


class Points:
    """A detector that finds one face where it is told."""

    def __init__(self, points: np.ndarray):
        self.points = points

    def __call__(self, pixels):
        return from_landmarks([self.points.tolist()])


_TURNED = np.array([[1.6, 0.4, 20.0], [-0.4, 1.6, 30.0]])  # from a face of 16 pixels to the photograph


def test_only_masked_pixels_of_a_photographs_faces_change():
    photo = np.random.default_rng(3).integers(0, 250, (80, 90, 3), dtype=np.uint8)
    faces = from_landmarks([transform(template(16), _TURNED).tolist()])
    mask = np.zeros((80, 90), dtype=bool)
    mask[30:50, 26:44] = True  # on the face
    mask[2:6, 70:80] = True  # beside it
    seen = []

    def fill(face, hidden):
        seen.append(hidden)
        return np.where(hidden[..., None], np.uint8(200), face)

    choices = Choices(smallest=1.0, tint=False)
    found = fill_photo(photo, fill, None, size=16, mask=mask, faces=faces, choices=choices)
    assert found.faces == 1 and found.left == pytest.approx(40 / 400)
    inside = np.zeros_like(mask)
    inside[30:50, 26:44] = True
    assert np.array_equal(found.pixels[~inside], photo[~inside])
    # away from the mask's border, what was drawn is there and nothing else
    assert np.abs(found.pixels[38:42, 33:37].astype(int) - 200).max() <= 1
    # the mask was laid over the turned face: as many of its pixels as the map's area says, and the border
    assert len(seen) == 1 and 360 / 2.72 <= seen[0].sum() <= 360 / 2.72 + 70


def test_a_photographs_white_is_filled_and_what_cannot_be_is_said():
    photo = np.random.default_rng(3).integers(0, 250, (80, 90, 3), dtype=np.uint8)
    call = {"size": 16, "faces": from_landmarks([transform(template(16), _TURNED).tolist()])}
    call["choices"] = Choices(smallest=1.0, tint=False)
    with pytest.raises(ValueError, match="fill_photo: nothing is masked; give a mask, or paint the area white"):
        fill_photo(photo, lambda face, _: face, None, **call)
    photo[30:50, 26:44] = 255
    found = fill_photo(photo, lambda face, hidden: np.where(hidden[..., None], np.uint8(9), face), None, **call)
    assert (found.pixels[38:42, 33:37] < 20).all() and found.left == 0
    beside = np.zeros((80, 90), dtype=bool)
    beside[:4, 80:] = True
    with pytest.raises(ValueError, match="what is masked lies on no face that was found"):
        fill_photo(photo, lambda face, _: face, None, mask=beside, **call)
    with pytest.raises(ValueError, match=r"the mask is \(4, 4\), the photograph \(80, 90\); they must be equal"):
        fill_photo(photo, lambda face, _: face, None, mask=beside[:4, :4], **call)


def test_the_command_fills_faces_of_whole_photographs(tmp_path: Path, capsys, monkeypatch):
    save(tmp_path / "fill.safetensors", small.codeformer(task="inpainting"))
    photo = np.random.default_rng(3).integers(0, 250, (80, 90, 3), dtype=np.uint8)
    photo[30:50, 26:44] = 255
    write(tmp_path / "photo.png", photo)
    points = transform(template(16), _TURNED)
    monkeypatch.setattr("codeprior.photos.faces.detector", lambda *_, **__: Points(points))
    call = ["restore", str(tmp_path / "photo.png"), str(tmp_path / "out.png"), "--task", "inpaint"]
    assert main([*call, "--weights", str(tmp_path / "fill.safetensors"), "--smallest", "1"]) == 0
    assert "inpaint of 1 face, " in capsys.readouterr().out
    answer, white = read(tmp_path / "out.png").pixels, (photo == 255).all(-1)
    assert np.array_equal(answer[~white], photo[~white]) and (answer[white] != 255).any()


def test_a_face_that_fails_does_not_stop_the_others(tmp_path: Path, capsys):
    save(tmp_path / "fill.safetensors", small.codeformer(task="inpainting"))
    (tmp_path / "in").mkdir()
    white = _face()
    white[:4] = 255
    write(tmp_path / "in" / "a.png", _face()), write(tmp_path / "in" / "b.png", white)
    call = ["restore", str(tmp_path / "in"), str(tmp_path / "out"), "--task", "inpaint", "--aligned"]
    assert main([*call, "--weights", str(tmp_path / "fill.safetensors")]) == 3
    assert "a.png: inpaint: nothing is masked" in capsys.readouterr().err
    assert not (tmp_path / "out" / "a.png").exists() and (tmp_path / "out" / "b.png").exists()


def test_weights_of_another_task_are_refused_once_and_plain_restoring_says_what_they_are_for(tmp_path: Path, capsys):
    save(tmp_path / "colour.safetensors", small.codeformer(task="colourisation"))
    (tmp_path / "in").mkdir()
    for name in "ab":
        write(tmp_path / "in" / f"{name}.png", _face())
    call = ["restore", str(tmp_path / "in"), str(tmp_path / "out"), "--aligned"]
    weights = ["--weights", str(tmp_path / "colour.safetensors")]
    assert main([*call, *weights, "--task", "inpaint"]) == 2
    said = capsys.readouterr().err
    assert said.count("inpaint: the weights are for colourisation; give it weights for inpainting") == 1
    assert main([*call, *weights, "--always"]) == 0
    assert "the weights are for colourisation; --task colourise does what they learned" in capsys.readouterr().err


def test_a_task_takes_the_models_options_and_refuses_those_of_restoring(tmp_path: Path, capsys):
    model = small.codeformer(task="colourisation")
    save(tmp_path / "colour.safetensors", model)
    write(tmp_path / "face.png", _face())
    call = ["restore", str(tmp_path / "face.png"), str(tmp_path / "out.png"), "--aligned", "--task", "colourise"]
    call += ["--weights", str(tmp_path / "colour.safetensors")]
    assert main([*call, "--strength", "0.5", "--report", str(tmp_path / "lines")]) == 2
    assert "--task colourise does not take --strength, --report, which only restoring has" in capsys.readouterr().err
    assert main([*call, "--option", "loudness=1"]) == 2
    assert "CodeFormer has no option 'loudness'" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_a_task_leaves_metadata_out_where_it_is_told_to(tmp_path: Path):
    save(tmp_path / "colour.safetensors", small.codeformer(task="colourisation"))
    note = Image.Exif()
    note[_DESCRIPTION] = "at home"
    Image.fromarray(_face()).save(tmp_path / "face.jpg", exif=note)
    call = ["restore", str(tmp_path / "face.jpg"), "--aligned", "--task", "colourise"]
    call += ["--weights", str(tmp_path / "colour.safetensors")]
    assert main([*call[:2], str(tmp_path / "kept.png"), *call[2:]]) == 0
    assert main([*call[:2], str(tmp_path / "bare.png"), *call[2:], "--strip-metadata"]) == 0
    found = [Image.open(tmp_path / f"{name}.png").getexif().get(_DESCRIPTION) for name in ("kept", "bare")]
    assert found == ["at home", None]
