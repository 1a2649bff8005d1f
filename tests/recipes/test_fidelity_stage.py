"""Stages 3b and 3c: what they move, what they hand on, and what the codes alone still give."""

from dataclasses import replace

import pytest
import torch

from codeprior import weights
from codeprior.losses import PerceptualLoss
from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.fidelity_stage import FidelityStage
from tests.recipes.tiny import SMALL, Colours, copied, moved, one_batch, restoration


def _fidelity(**changes):
    torch.manual_seed(0)
    recipe = replace(settings.fidelity_small(), **(SMALL | changes))
    model = restoration().model
    return FidelityStage(recipe, model=model, perceptual=PerceptualLoss(Colours()))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("tap_encoder", ["shared", "own"])
def test_the_fidelity_stage_moves_the_taps_and_their_own_encoder_alone(accumulate, tap_encoder):
    stage = _fidelity(accumulate=accumulate, batch=2, tap_encoder=tap_encoder)
    before = copied(stage.model)
    # the last layer of new taps is zero: the encoder behind it is moved from the second step on
    metrics = stage.update(one_batch(), 0)
    stage.update(one_batch(), 1)
    learned = {name.split(".")[0] for name in moved(stage.model, before)}
    assert learned == ({"taps"} if tap_encoder == "shared" else {"taps", "tap_encoder"})
    assert set(stage.recipe.weights) | {"total", "skipped"} == set(metrics)


def test_taps_with_an_encoder_of_their_own_are_saved_and_trained_further(tmp_path):
    stage = _fidelity(learning_rate=1e-2, warmup=0)
    for step in range(3):
        stage.update(one_batch(), step)
    degraded, found = stage.faces(one_batch()).degraded, stage.result.eval()
    weights.save(tmp_path / "model.safetensors", found)
    again = weights.load(tmp_path / "model.safetensors").eval()
    assert torch.equal(again.restore(degraded), found.restore(degraded))
    assert not torch.equal(found.restore(degraded), found.with_taps(found.taps).eval().restore(degraded))
    further = FidelityStage(stage.recipe, model=again, perceptual=PerceptualLoss(Colours()))
    assert torch.equal(further.result.eval().restore(degraded), found.restore(degraded))


def test_fidelity_brings_faces_nearer_and_zero_is_the_restorer_of_stage_three():
    stage = _fidelity(learning_rate=1e-2, warmup=0, steps=30, average=None, degradation="lcqs-mild")
    batch = one_batch()
    pair = stage.faces(batch)
    bare = stage.model.restore(pair.degraded, fidelity=0.0)
    for step in range(30):
        stage.update(batch, step)
    near, zero = stage.restore(pair.degraded), stage.result.restore(pair.degraded, fidelity=0.0)
    assert torch.equal(bare, zero)
    assert (near - pair.clean).abs().mean() < 0.9 * (bare - pair.clean).abs().mean()
    with pytest.raises(ValueError, match=r"restore: expected a fidelity in \[0, 1\], got 1.5"):
        stage.model.restore(pair.degraded, fidelity=1.5)


@pytest.mark.parametrize("average", [None, 0.5])
def test_a_decoder_that_learns_with_the_taps_is_handed_on_and_trained_further(tmp_path, average):
    stage = _fidelity(decoder="trained", codes_alone=0.25, learning_rate=1e-2, warmup=0, average=average)
    before, batch = copied(stage.model), one_batch()
    for step in range(3):
        stage.update(batch, step)
    learned = moved(stage.model, before)
    assert {name.split(".")[0] for name in learned} == {"taps", "tap_encoder", "prior"}
    assert {name.split(".")[1] for name in learned if name.startswith("prior.")} == {"decoder"}
    degraded, found = stage.faces(batch).degraded, stage.result.eval()
    assert not any(parameter.requires_grad for parameter in found.prior.parameters()) or average is None
    weights.save(tmp_path / "model.safetensors", found)
    again = weights.load(tmp_path / "model.safetensors").eval()
    further = FidelityStage(stage.recipe, model=again, perceptual=PerceptualLoss(Colours()))
    for model in (again, further.result.eval()):
        assert torch.equal(model.restore(degraded), found.restore(degraded))
        assert torch.equal(model.restore(degraded, fidelity=0.0), found.restore(degraded, fidelity=0.0))
    assert not torch.equal(found.restore(degraded, fidelity=0.0), stage.model.with_taps(
        found.taps, found.tap_encoder, prior=_fidelity().model.prior).restore(degraded, fidelity=0.0))  # fmt: skip


def test_a_share_of_a_batch_is_restored_by_the_codes_alone():
    stage = _fidelity(decoder="trained", codes_alone=0.25, learning_rate=1e-2, warmup=0, batch=4)
    batch = one_batch()
    for step in range(2):  # taps that do something
        stage.update(batch, step)
    degraded = stage.faces(batch).degraded
    degraded = degraded.repeat(4 // len(degraded) or 1, 1, 1, 1)[:4]
    with torch.no_grad():
        made = stage.decoder(degraded)
    # the shape of a batch changes how convolutions are summed: 1e-4 is a hundred times less than what taps change
    torch.testing.assert_close(made[:1], stage.model.restore(degraded, fidelity=0.0)[:1], atol=1e-4, rtol=0)
    torch.testing.assert_close(made[1:], stage.model.restore(degraded)[1:], atol=1e-4, rtol=0)
    assert (made[:1] - stage.model.restore(degraded)[:1]).abs().max() > 1e-2
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"codes_alone is -0\.1|codes_alone is 1\.0"):
            _fidelity(codes_alone=share)
