"""One update predicts codes for every family: here CodeFormer's second stage, written from library blocks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from codeprior.codebooks import Codebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.predictors import CodePredictor
from codeprior.prior import VQGAN
from codeprior.stages import CodeSettings, CodeStage, loss_weights
from tests.torture import stages

SIZES = {"channels": 4, "multipliers": (1, 2, 2), "blocks": 1, "attention": (), "groups": 2}
SETTINGS = CodeSettings(
    degradation_size=32, batch=4, steps=30, learning_rate=3e-3, betas=(0.9, 0.99), average=0.995,
    weights=loss_weights(code=0.5, feature=1.0),
)  # fmt: skip


class CodeFormer(nn.Module):
    """An encoder and a code predictor on a frozen prior; one table of codes, so nothing need be known in training."""

    def __init__(self, teacher: VQGAN):
        super().__init__()
        self.prior = teacher.prior()
        self.encoder = VQGANEncoder(4, **SIZES)
        self.predict = CodePredictor(4, 8, grid=(8, 8), width=8, layers=1, heads=2, hidden=8)

    def forward(self, degraded):
        latent = self.encoder(degraded)
        return self.predict(latent), latent

    def restore(self, degraded):
        return self.prior.decode_indices(self(degraded)[0].argmax(-1))


def _stage(**changes):
    torch.manual_seed(0)
    teacher = VQGAN(VQGANEncoder(4, **SIZES), Codebook(8, 4), VQGANDecoder(4, **SIZES))
    teacher.codebook.weight.data.normal_()
    return CodeStage(SETTINGS, model=CodeFormer(teacher), teacher=teacher, size=32, **changes)


def test_the_loss_is_cross_entropy_and_feature_distance_to_the_frozen_teacher(tmp_path):
    stage = _stage()
    pair = stage.faces(stages.stream(tmp_path / "faces").at(0))
    target = stage.target(stages.stream(tmp_path / "faces").at(0), pair.clean)
    with torch.no_grad():
        expected = stage.teacher.encode(pair.clean)
        logits, latent = stage.model(pair.degraded)
        found = stage.losses(pair.degraded, target)
    assert torch.equal(target.indices, expected.indices)
    code = F.cross_entropy(logits.flatten(0, 2), expected.indices.flatten())
    feature = ((expected.codes - latent) ** 2).mean()
    assert found["code"].item() == pytest.approx(code.item(), rel=1e-5)
    assert found["feature"].item() == pytest.approx(feature.item(), rel=1e-5)
    assert found["total"].item() == pytest.approx((0.5 * code + feature).item(), rel=1e-5)


def test_encoder_and_predictor_learn_and_the_prior_stays(tmp_path):
    stage, batch = _stage(), stages.stream(tmp_path / "faces").at(0)
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    totals = [float(stage.update(batch, step)["total"]) for step in range(30)]
    assert totals[-1] < 0.8 * totals[0]
    moved = {name for name, value in stage.model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"encoder", "predict"}
    assert not any(parameter.requires_grad for parameter in stage.teacher.parameters())
    # the average of the weights is what restores
    assert stage.results["restorer"] is stage.average.module and stage.results["restorer"] is not stage.model
    assert stage.preview(batch)["restored"].shape == (4, 3, 32, 32)
