"""The detectors that need a weight file: their geometry against formulas, their files read or refused with a reason."""

import sys
import types
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from codeprior.photos.faces import detector
from codeprior.photos.faces._retinaface import Raw, RetinaFaceNetwork
from codeprior.photos.faces.retinaface import RetinaFace, anchors, load


@pytest.fixture(scope="module")
def mobilenet():
    torch.manual_seed(0)
    return RetinaFaceNetwork("mobilenet").eval()


def test_the_networks_have_the_tensors_of_the_published_files(mobilenet):
    """The released files' sizes are those of their tensors and at most 300 bytes of names for each."""
    with torch.device("meta"):
        large = RetinaFaceNetwork("resnet50")
    for network, size in ((large, 109_497_761), (mobilenet, 1_789_735)):
        state = network.state_dict()
        tensors = sum(value.numel() * value.element_size() for value in state.values())
        assert 0 < size - tensors < 300 * len(state)
    assert len(large.state_dict()) == 456  # counted in a published report of missing keys
    assert {"ssh1.conv5X5_2.0.weight", "fpn.merge1.1.bias", "LandmarkHead.2.conv1x1.bias"} <= state.keys()


def test_there_is_an_anchor_for_every_answer(mobilenet):
    for height, width in ((65, 31), (8, 8), (1, 70)):
        raw = mobilenet(torch.zeros(1, 3, height, width))
        assert len(anchors(height, width)) == raw.boxes.shape[1] == raw.scores.shape[1] == raw.points.shape[1]


def test_anchors_lie_in_the_middle_of_their_cells():
    found = anchors(33, 40)
    assert found[:3].tolist() == [[4, 4, 16, 16], [4, 4, 32, 32], [12, 4, 16, 16]]
    assert found[-1].tolist() == [48, 48, 512, 512]  # the second of two coarse cells a side
    assert len(found) == 2 * (5 * 5 + 3 * 3 + 2 * 2)


class _One(nn.Module):
    """Sees one face, at the anchor of a given number."""

    def __init__(self, place: int):
        super().__init__()
        self.place = place

    def forward(self, image: torch.Tensor) -> Raw:
        count = len(anchors(*image.shape[2:]))
        scores = torch.zeros(1, count)
        scores[0, self.place] = 0.9
        boxes = torch.zeros(1, count, 4)
        boxes[..., 0] = 2.5  # a quarter of the side to the right
        boxes[..., 2:] = 5 * np.log(2)  # twice the side
        points = torch.zeros(1, count, 10)
        points[..., 3] = 10  # the second point: one side below
        return Raw(boxes, scores, points)


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_offsets_are_decoded_in_the_pixels_of_the_photograph(scale):
    finder = RetinaFace(_One(3), shorter=64)
    (face,) = finder(np.zeros((64 * scale, 128 * scale, 3), np.uint8))
    x, y, side = 12, 4, 32
    assert face.score == pytest.approx(0.9)
    assert np.allclose(face.box, np.array([x + side / 4 - side, y - side, x + side / 4 + side, y + side]) * scale)
    assert np.allclose(face.points, np.array([(x, y), (x, y + side), (x, y), (x, y), (x, y)]) * scale)


def test_the_network_is_given_blue_green_red_less_the_mean():
    class Keeps(_One):
        def forward(self, image):
            self.seen = image
            return super().forward(image)

    network = Keeps(0)
    RetinaFace(network)(np.full((16, 16, 3), (123, 117, 204), np.uint8))
    assert network.seen[0, :, 5, 5].tolist() == [100, 0, 0]


def test_a_weight_file_gives_the_same_network(tmp_path, mobilenet):
    state = {f"module.{name}": value for name, value in mobilenet.state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    image = torch.rand(1, 3, 48, 64)
    found = load(tmp_path / "a.pth").network(image)
    assert all(torch.equal(one, other) for one, other in zip(found, mobilenet(image), strict=True))


def test_other_weight_files_are_refused_with_a_reason(tmp_path, mobilenet):
    torch.save({"w": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"holds other weights: \d+ tensors are missing, such as body.stage1"):
        load(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"\x80\x02cos\nsystem\n.")
    with pytest.raises(ValueError, match="a bare pickle"):
        load(tmp_path / "b.pth")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / "c.pth")
    for name in ("retinaface", "yunet", "uniface"):
        with pytest.raises(ValueError, match=f"detector '{name}' needs"):
            detector(name)


def test_files_of_the_format_that_is_published_are_read(tmp_path, mobilenet):
    path = tmp_path / "old.pth"
    torch.save(
        {f"module.{k}": v for k, v in mobilenet.state_dict().items()}, path, _use_new_zipfile_serialization=False
    )
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(load(path).network(image).boxes, mobilenet(image).boxes)


def test_yunet_rows_become_faces(tmp_path, monkeypatch):
    import cv2

    class Finder:
        def setInputSize(self, size):
            self.size = size

        def detect(self, pixels):
            assert pixels.shape[:2] == self.size[::-1]
            row = [10, 20, 30, 40, *(float(value) for value in range(10)), 0.8]
            return 1, np.array([row, [*row[:14], 0.95]], np.float32)

    (tmp_path / "a.onnx").write_bytes(b"x")
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *_: Finder())
    finder = detector("yunet", weights=tmp_path / "a.onnx")
    first, second = finder(np.zeros((100, 200, 3), np.uint8))
    assert (first.score, second.score) == (pytest.approx(0.95), pytest.approx(0.8))
    assert first.box.tolist() == [10, 20, 40, 60]
    assert first.points[1].tolist() == [2, 3]
    (halved, _) = finder(np.zeros((1280, 2560, 3), np.uint8))
    assert halved.box.tolist() == [20, 40, 80, 120]
    assert halved.points[1].tolist() == [4.5, 6.5]  # pixel centres: 2 · (p + ½) − ½


def test_yunet_refuses_a_file_that_is_no_network(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="OpenCV cannot read .*a.onnx"):
        detector("yunet", weights=tmp_path / "a.onnx")


def test_uniface_is_given_its_file_and_may_not_download(tmp_path, monkeypatch):
    from enum import StrEnum

    class Names(StrEnum):
        SMALL = "retinaface_small"

    class Found(NamedTuple):
        bbox: list
        landmarks: list
        confidence: float

    class Info(NamedTuple):
        sha256: str

    class Finder:
        def __init__(self, *, model_name, providers):
            import os

            assert os.environ["UNIFACE_CACHE_DIR"] == str(tmp_path)

        def detect(self, image):
            return [Found([1, 2, 3, 4], [[0, 1]] * 5, 0.5), Found([5, 6, 7, 8], [[2, 3]] * 5, 0.7)]

    path = tmp_path / "retinaface_small.onnx"
    path.write_bytes(b"x")
    with pytest.raises(ImportError, match="pip install uniface"):
        detector("uniface", weights=path)
    constants, detection = types.ModuleType("uniface.constants"), types.ModuleType("uniface.detection")
    constants.RetinaFaceWeights = Names
    constants.MODEL_REGISTRY = {Names.SMALL: Info("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")}
    detection.RetinaFace = Finder
    for module in (types.ModuleType("uniface"), constants, detection):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert [face.score for face in detector("uniface", weights=path)(np.zeros((9, 9, 3), np.uint8))] == [0.7, 0.5]
    path.write_bytes(b"changed")
    with pytest.raises(ValueError, match="is damaged; uniface would replace it by a download"):
        detector("uniface", weights=path)
    (tmp_path / "other.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"knows no file other.onnx; it has retinaface_small.onnx"):
        detector("uniface", weights=tmp_path / "other.onnx")
