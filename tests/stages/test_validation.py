"""Each kind of stage is measured on what it is for, and by the score that its checkpoints are chosen by."""

import pytest
import torch

from codeprior.images import to_signed, to_unit
from codeprior.stages import validation
from codeprior.training import Batch, open_images
from tests.torture import stages

SEEN = {"lq": "degraded", "association": "clean", "restoration": "restored"}


class Recorded:
    """Stands for `FixedFaces`: notes the faces that it is given, and restores them."""

    def __init__(self, clean, degraded=None):
        self.clean, self.degraded = clean, degraded

    def restored(self, restore):
        self.answer = restore(self.clean if self.degraded is None else self.degraded)
        return {"psnr": 20.0, "ssim": 0.9, "perceptual": 2.0, "identity": 0.5}


@pytest.mark.parametrize("name", SEEN)
def test_a_stage_is_measured_on_what_it_is_for(name, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "FixedFaces", Recorded)
    stages.stream(tmp_path / "faces")
    stage = stages.stage(name)
    measure = validation.Validation(stage, [tmp_path / "faces"], limit=3)
    found, faces = measure(), measure._faces
    images = open_images([tmp_path / "faces"], size=stages.SIZE)
    clean = torch.stack([images.image(number) for number in range(3)])
    pair = stage.faces(Batch(clean, torch.arange(3) + 1, torch.arange(3), torch.zeros(3, dtype=torch.bool)))
    restores = SEEN[name] == "restored"
    assert torch.equal(faces.clean, to_unit(pair.degraded if SEEN[name] == "degraded" else pair.clean))
    assert torch.equal(faces.degraded, to_unit(pair.degraded)) if restores else faces.degraded is None
    shown = faces.degraded if restores else faces.clean
    assert torch.equal(faces.answer, to_unit(stage.answer(to_signed(shown))))
    # identity + 0.1 · perceptual, or perceptual + 10 · (1 − SSIM)
    assert found["score"] == pytest.approx(0.7 if restores else 3.0)
