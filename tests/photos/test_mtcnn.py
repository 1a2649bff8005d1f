"""The default detector finds faces where the ONNX networks that its weights come from find them."""

import numpy as np
import pytest
import torch

from codeprior.kernels import use_impl
from codeprior.photos.faces import detector
from codeprior.photos.faces._cascade import networks
from tests.shared import shared_path

# mtcnn-runtime 1.0.0's networks under onnxruntime 1.31.1, in our cascade, on scikit-image 0.26's astronaut
_ASTRONAUT = [
    (203.918573, 101.601875), (247.274667, 104.047249), (224.628929, 128.921423), (202.575213, 140.194848),
    (245.528824, 141.763997),
]  # fmt: skip


@pytest.fixture(scope="module")
def mtcnn():
    return detector("mtcnn")


def test_the_astronaut_is_found_where_the_original_networks_find_her(mtcnn):
    astronaut = pytest.importorskip("skimage.data").astronaut()
    (face,) = mtcnn(astronaut)
    assert np.abs(face.points - _ASTRONAUT).max() < 1e-3  # pixels; convolutions sum in another order
    assert face.score > 0.999
    assert face.box[0] < face.points[:, 0].min() and face.points[:, 0].max() < face.box[2]


def test_who_looks_for_wide_faces_finds_them_in_the_same_places(mtcnn):
    photo = np.full((600, 900, 3), 90, np.uint8)
    astronaut = pytest.importorskip("skimage.data").astronaut()
    photo[40:552, 20:532] = astronaut  # its face is 85 wide
    photo[200:328, 700:828] = astronaut[::4, ::4]  # 21 wide
    both, (wide,) = mtcnn(photo), mtcnn.at_least(60.0)(photo)
    assert sorted(round(face.points[2, 0] / 100) for face in both) == [2, 8]
    assert np.abs(wide.points - both[0].points).max() < 0.1
    # what is asked for is in the photograph's pixels, whatever the detector reduces it to
    large = photo.repeat(3, 0).repeat(3, 1)
    assert sorted(round(face.points[2, 0] / 300) for face in mtcnn.at_least(60.0)(large)) == [2, 8]
    assert [round(face.points[2, 0] / 300) for face in mtcnn.at_least(180.0)(large)] == [2]
    assert mtcnn(photo)[1].score == both[1].score  # the first detector stays as it was


@pytest.mark.parametrize("impl", ["reference", "prelu_convolution=reference", "crop_resize=reference"])
def test_faces_are_the_same_without_compiled_layers(mtcnn, impl):
    astronaut = pytest.importorskip("skimage.data").astronaut()
    for times in (1, 3):  # the second is reduced before it is searched
        photo = astronaut.repeat(times, 0).repeat(times, 1)
        (usual,) = mtcnn(photo)
        with use_impl(impl):
            (plain,) = mtcnn(photo)
        assert np.abs(plain.points - usual.points).max() < 1e-3 * times and abs(plain.score - usual.score) < 1e-5


def test_no_face_is_no_error(mtcnn):
    assert mtcnn(np.zeros((64, 80, 3), np.uint8)) == []
    assert mtcnn(np.full((5, 300, 3), 90, np.uint8)) == []


def test_a_turned_half_size_photograph_moves_the_points_along(mtcnn):
    astronaut = pytest.importorskip("skimage.data").astronaut()
    (whole,) = mtcnn(astronaut)
    (mirrored,) = mtcnn(np.ascontiguousarray(astronaut[:, ::-1]))
    swapped = mirrored.points[[1, 0, 2, 4, 3]] * (-1, 1) + (511, 0)
    assert np.abs(swapped - whole.points).max() < 3  # pixels of a face 90 wide; the networks are not symmetric
    half = astronaut.reshape(256, 2, 256, 2, 3).mean((1, 3)).round().astype(np.uint8)
    (smaller,) = mtcnn(half)
    assert np.abs((smaller.points + 0.5) * 2 - 0.5 - whole.points).max() < 3


def test_aligned_faces_have_their_eyes_on_the_template(mtcnn):
    from codeprior.photos import read
    from codeprior.photos.faces import template

    distances = []
    for path in sorted(shared_path("data/faces/512").rglob("*.jpg"))[:4]:
        faces = mtcnn(read(path).pixels)
        assert faces
        distances.append(np.abs(faces[0].points[:2] - template(512)[:2]).mean())
    assert np.median(distances) < 8  # pixels of 512: the faces were aligned by other detectors


def test_the_weights_are_checked_against_the_networks_and_frozen():
    for network in networks("cpu"):
        assert not any(parameter.requires_grad for parameter in network.parameters())
    points, offsets, scores = networks("cpu").place(torch.zeros(2, 3, 48, 48))
    assert points.shape == (2, 10) and offsets.shape == (2, 4) and scores.shape == (2,)
    with pytest.raises(ValueError, match="carries its weights"):
        detector("mtcnn", weights="x.pth")
    with pytest.raises(ValueError, match="no detector is named 'haar'; choose one of"):
        detector("haar")
