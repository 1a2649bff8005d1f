"""What the picture stages of families share: their terms' sum, what they hand on, and what they refuse."""

import pytest
import torch

from codeprior.discriminators import PatchGAN
from codeprior.stages import weighted
from tests.recipes.test_residual_priors import _fidelity, _restoreformer, _vqfr


def test_terms_are_added_up_in_their_own_order():
    terms = {"b": torch.tensor(1e8), "a": torch.tensor(1.0), "c": torch.tensor(-1e8)}
    weights = {"a": 3.0, "b": 1.0, "c": 1.0, "unused": 7.0}
    expected = torch.stack([terms["b"], 3 * terms["a"], terms["c"]]).sum()
    assert torch.equal(weighted(terms, weights), expected)
    assert weighted({"a": terms["a"]}, weights) == 3


@pytest.mark.parametrize("build", [_fidelity, _vqfr, _restoreformer])
def test_a_stage_hands_on_its_restorer_and_its_discriminator(build):
    stage = build()
    assert stage.results["restorer"] is stage.average.module
    assert isinstance(stage.results["discriminator"], PatchGAN)
    assert {"model", "discriminator", "discriminator_optimizer", "average"} < set(stage.saved)


@pytest.mark.parametrize("build", [_fidelity, _vqfr, _restoreformer])
def test_a_batch_in_parts_is_refused_in_words(build, monkeypatch):
    monkeypatch.setattr(
        "tests.recipes.test_residual_priors.SMALL", {"degradation_size": 32, "batch": 4, "accumulate": 2}
    )
    with pytest.raises(ValueError, match="Stage: it takes a rank's batch whole, got accumulate=2"):
        build()
