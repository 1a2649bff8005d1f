"""Families on a first stage of two residual tables and shuffled pixels, which is what the shipped prior has."""

from dataclasses import replace

import pytest
import torch

from codeprior import VQGAN, VQGANDecoder, VQGANEncoder, load, save
from codeprior.codebooks import MovingAverageCodebook, ResidualCodebook
from codeprior.recipes import codeformer, restoreformer, vqfr
from codeprior.recipes.codeformer import settings as codeformer_settings
from codeprior.recipes.codeformer.codes_stage import CodesStage
from codeprior.recipes.codeformer.fidelity_stage import FidelityStage
from codeprior.recipes.restoreformer import settings as restoreformer_settings
from codeprior.recipes.restoreformer.restoration_stage import RestorationStage as RestoreFormerStage
from codeprior.recipes.vqfr import settings as vqfr_settings
from codeprior.recipes.vqfr.restoration_stage import RestorationStage as VQFRStage
from codeprior.stages import loss_weights
from tests.recipes.steps import Maps
from tests.torture.stages import Edges, stream

SIZES = {"channels": 8, "multipliers": (1, 2), "attention": (), "groups": 4, "unshuffle": 2}
NETWORK = {"size": 32, "dim": 4, "codes": 8} | SIZES
SMALL = {"degradation_size": 32, "batch": 4}


def _teacher() -> VQGAN:
    torch.manual_seed(0)
    table = MovingAverageCodebook(8, 4)
    torch.nn.init.normal_(table.weight)
    book = ResidualCodebook(table, stages=2)
    return VQGAN(VQGANEncoder(4, blocks=1, **SIZES), book, VQGANDecoder(4, blocks=2, **SIZES))


def _codes() -> CodesStage:
    network = replace(codeformer_settings.small_network(), **NETWORK, width=8, layers=1, heads=2, hidden=8)
    return CodesStage(replace(codeformer_settings.codes_small(), network=network, **SMALL), teacher=_teacher())


def _fidelity() -> FidelityStage:
    codes = _codes()
    network = replace(codes.recipe.network, tap_strides=(4, 2))
    settings = replace(codeformer_settings.fidelity_small(), network=network, discriminator_channels=4, **SMALL)
    return FidelityStage(settings, model=codes.model, teacher=_teacher(), perceptual=Edges())


def _vqfr() -> VQFRStage:
    network = replace(vqfr_settings.small_network(), **NETWORK, condition_channels=2)
    settings = replace(vqfr_settings.restoration_small(), network=network, discriminator_channels=4, **SMALL)
    return VQFRStage(settings, teacher=_teacher(), perceptual=Edges())


def _restoreformer() -> RestoreFormerStage:
    from codeprior.losses import PerceptualLoss

    network = replace(restoreformer_settings.small_network(), **NETWORK, heads=2, encoder_blocks=1, decoder_blocks=2)
    settings = replace(
        restoreformer_settings.restoration_small(), network=network, discriminator_channels=4,
        weights=loss_weights(l1=1.0, codebook=1.0, perceptual=0.1, adversarial=0.1), **SMALL,
    )  # fmt: skip
    return RestoreFormerStage(settings, dictionary=_teacher(), perceptual=PerceptualLoss(Maps()))


@pytest.mark.parametrize("build", [_codes, _fidelity, _vqfr, _restoreformer])
def test_a_family_learns_and_restores_on_a_prior_of_two_tables(build, tmp_path):
    stage, data = build(), stream(tmp_path / "faces")
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    metrics = [stage.update(data.at(0), step) for step in range(2)]
    assert all(torch.isfinite(value).all() for values in metrics for value in values.values())
    after = stage.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    # the tables follow moving averages while an auto-encoder trains; here they stay, whatever the mode
    assert changed and not any("codebook" in name for name in changed)
    assert any(name.startswith("encoder.") for name in changed)
    degraded = stage.faces(data.at(1)).degraded
    restored = stage.answer(degraded)
    assert restored.shape == degraded.shape
    save(tmp_path / "restorer.safetensors", stage.result)
    again = load(tmp_path / "restorer.safetensors").eval()
    options = {"fidelity": 1.0} if isinstance(again, vqfr.model.VQFRv2) else {}
    torch.testing.assert_close(again.restore(degraded, **options), restored)


def test_the_families_accept_the_shipped_prior_as_their_first_stage():
    from codeprior.recipes.daefr.restore import EMBEDDED

    teacher = load(next(iter(EMBEDDED.values())).parent / "hq_vqgan_small.safetensors")
    assert teacher.prior().tables == 2
    image = torch.zeros(1, 3, 128, 128)
    model = codeformer.model.fresh(codeformer_settings.small_network(), teacher)
    model = model.with_taps(codeformer.model.fresh_taps(codeformer_settings.small_network()))
    others = (
        vqfr.model.fresh(vqfr_settings.small_network(), teacher),
        restoreformer.model.fresh(restoreformer_settings.small_network(), teacher),
    )
    for one in (model, *others):
        assert one.eval().restore(image).shape == image.shape
    assert model.predictor(torch.zeros(1, 32, 16, 16)).shape == (1, 2, 16, 16, 512)
