"""A trained restorer in Python: any picture type in, the same type out, one or many."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.images import to_signed, to_unit
from codeprior.photos.faces import from_landmarks, template
from codeprior.photos.restoration import Choices
from codeprior.recipes.daefr import load
from codeprior.restorers import Restorer
from codeprior.weights import save
from tests.photos.corpus import scene


@pytest.fixture(scope="module")
def small() -> Restorer:
    return load("small")


@pytest.fixture
def face() -> torch.Tensor:
    return torch.from_numpy(scene(128, 128)).permute(2, 0, 1).float() / 255


def test_the_embedded_restorer_is_the_model_with_units_taken_care_of(small, face):
    assert small.size == 128
    model = small.model
    truth = to_unit(model.restore(to_signed(face[None])))[0]
    assert torch.equal(small(face, always=True), truth)
    examined = small.examine(face[None], always=True)
    assert examined.uncertainty.shape == (1, 16, 16)
    assert 0 <= examined.uncertainty.min() <= examined.uncertainty.max() <= 1


def test_every_picture_type_comes_back_as_itself(small, face):
    truth = small(face)
    levels = (truth * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    pixels = scene(128, 128)
    assert torch.equal(small(face[None]), truth[None])
    assert np.array_equal(small(pixels), levels)
    picture = small(Image.fromarray(pixels))
    assert isinstance(picture, Image.Image)
    assert np.array_equal(np.asarray(picture), levels)
    floats = small((pixels / 255).astype(np.float32))
    assert floats.dtype == np.float32
    assert np.allclose(floats, truth.permute(1, 2, 0).numpy(), atol=1e-6)
    assert small([]) == []
    several = small([pixels, Image.fromarray(pixels).convert("RGBA"), face])
    assert [type(one) for one in several] == [np.ndarray, Image.Image, torch.Tensor]
    assert np.abs(several[0].astype(int) - levels).max() <= 1  # a batch of three sums in another order


def test_many_are_the_same_as_one_by_one(small):
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(5, 3, 128, 128, generator=generator)
    together = small(faces)
    alone = torch.stack([small(one) for one in faces])
    # another batch size sums in another order; a code that flips would move pixels by far more
    assert (together - alone).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        ("a.png", TypeError, "expected PIL images, arrays or tensors, got str"),
        (np.zeros((8, 8)), ValueError, "expected an array H W 3"),
        (torch.zeros(1, 8, 8), ValueError, r"unit floats or uint8, b 3 H W, got torch.float32 of shape \(1, 1, 8, 8\)"),
        (
            torch.zeros(3, 8, 8, dtype=torch.int64),
            ValueError,
            "expected unit floats or uint8, b 3 H W, got torch.int64",
        ),
        (torch.full((3, 8, 8), -1.0), ValueError, "pass signed images through codeprior.to_unit"),
        (np.full((8, 8, 3), 200.0), ValueError, "divide 8-bit levels by 255"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(small, image, error, text):
    with pytest.raises(error, match=text):
        small(image)


def test_other_sizes_are_brought_to_the_models(small):
    for height, width in ((512, 512), (40, 60), (128, 150)):
        assert small(np.full((height, width, 3), 90, np.uint8)).shape == (128, 128, 3)


def test_a_photograph_is_restored_in_its_own_type(small):
    pixels = scene(220, 260)
    faces = from_landmarks([(template(180) + (30, 20)).tolist()])
    restored = small.photograph(pixels, faces=faces)
    assert restored.shape == pixels.shape
    assert not np.array_equal(restored, pixels)
    assert np.array_equal(restored[:, 230:], pixels[:, 230:])
    picture = small.photograph(Image.fromarray(pixels), faces=faces, choices=Choices(strength=1.0))
    assert np.array_equal(np.asarray(picture), restored)
    with pytest.raises(ValueError, match="expected H W 3 of 8-bit levels"):
        small.photograph(pixels / 255.0, faces=faces)
    with pytest.raises(ValueError, match="no face was found"):
        small.photograph(np.zeros((90, 90, 3), np.uint8))


def test_other_files_are_refused_by_name(tmp_path: Path, small):
    with pytest.raises(FileNotFoundError, match="there is no file .*embedded are"):
        load(tmp_path / "absent.safetensors")
    save(tmp_path / "prior.safetensors", small.model.predictor)
    with pytest.raises(ValueError, match="holds a CodePredictor; a DAEFR or SingleEncoder restores faces"):
        load(tmp_path / "prior.safetensors")
    save(tmp_path / "own.safetensors", small.model)
    face = torch.rand(3, 128, 128)
    assert torch.equal(load(tmp_path / "own.safetensors")(face), small(face))
