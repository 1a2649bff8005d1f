"""RestoreFormer's two stages at a tiny size: what each trains, where it begins, and that a resumed run is the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codeprior.recipes.restoreformer import settings as numbers
from codeprior.recipes.restoreformer.model import fresh, vqgan
from codeprior.recipes.restoreformer.restoration_stage import RestorationStage, is_attention
from codeprior.stages import VQGANStage, loss_weights, rate_at
from tests.recipes.steps import assert_a_resumed_run_is_the_same, assert_the_hatch_counts, perceptual
from tests.torture.stages import Edges, stream

TINY = replace(
    numbers.small_network(), size=32, dim=4, codes=8, channels=8, multipliers=(1, 2), groups=4, heads=2
)  # fmt: skip
SMALL = {"network": TINY, "degradation_size": 32, "batch": 4}


def _dictionary_model(seed: int = 0):
    torch.manual_seed(seed)
    model = vqgan(TINY)
    torch.nn.init.normal_(model.codebook.weight)
    return model


def _dictionary(seed: int = 0) -> VQGANStage:
    settings = replace(
        numbers.dictionary_small(), **SMALL, steps=40, adversarial_from=None, adversarial_start=3, codes_from=0.0,
        crop=None, whole_batch=None, discriminator_channels=4, discriminator_layers=1,
    )  # fmt: skip
    torch.manual_seed(seed)
    return VQGANStage(settings, model=vqgan(TINY, moving_average=True), size=32, perceptual=Edges())


def _restoration(seed: int = 0, **changes) -> RestorationStage:
    changes = {
        "adversarial_from": None, "adversarial_start": 2, "discriminator_channels": 4, "discriminator_layers": 1,
        "average": 0.9, "steps": 40,
        "weights": loss_weights(l1=1.0, perceptual=0.5, codebook=1.0, adversarial=0.1, style=10.0),
    } | changes  # fmt: skip
    dictionary = _dictionary_model()
    torch.manual_seed(seed)
    settings = replace(numbers.restoration_small(), **SMALL, **changes)
    return RestorationStage(settings, dictionary=dictionary, perceptual=perceptual())


def _with_parts(seed: int = 0, **changes) -> RestorationStage:
    weights = loss_weights(
        l1=1.0, perceptual=0.5, codebook=1.0, adversarial=0.1, parts_adversarial=0.1, parts_style=200.0
    )  # fmt: skip
    sizes = {"parts_sizes": (8, 8, 12), "parts_channels": 4}
    return _restoration(seed, **{"weights": weights, **sizes, **changes})


@pytest.mark.parametrize("build", [_dictionary, _restoration, _with_parts])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(build, tmp_path: Path):
    assert_a_resumed_run_is_the_same(build, tmp_path)


def test_the_small_stage_keeps_patterns_of_two_pixels_away(tmp_path: Path):
    assert_the_hatch_counts(lambda: _restoration(weights=numbers.restoration_small().weights), tmp_path)
    assert "hatch" not in numbers.restoration().weights


def test_everything_but_the_dictionary_learns(tmp_path: Path):
    stage, data = _restoration(), stream(tmp_path / "faces")
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    batch = data.at(0)
    losses = [float(stage.update(batch, step)["l1"]) for step in range(12)]
    assert losses[-1] < losses[0]
    kept = {name for name, value in stage.model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {"codebook.weight"}


def test_the_terms_begin_when_they_should(tmp_path: Path):
    stage, data = _restoration(), stream(tmp_path / "faces")
    early, late = (set(stage.update(data.at(step), step)) for step in (1, 2))
    assert {"l1", "perceptual", "codebook", "style", "total"} <= early
    assert late - early == {"adversarial", "adaptive_weight", "discriminator"}


def test_discriminators_of_eyes_and_mouth_learn_and_are_fooled_from_their_step_on(tmp_path: Path):
    stage, data = _with_parts(), stream(tmp_path / "faces")
    assert stage.parts is not None and {"parts_discriminators", "parts_optimizer"} < set(stage.saved)
    before = [value.clone() for value in stage.parts.discriminators.parameters()]
    early = stage.update(data.at(1), 1)
    assert not [name for name in early if name.startswith("parts")]
    assert all(torch.equal(value, old) for value, old in zip(stage.parts.discriminators.parameters(), before))
    late = stage.update(data.at(2), 2)
    found = {name for name in late if name.startswith("parts")}
    assert found == {"parts_adversarial", "parts_style", "parts_discriminator"}
    assert not any(torch.equal(value, old) for value, old in zip(stage.parts.discriminators.parameters(), before))
    # ten times the rate of the rest in the published settings
    fast, slow = (one.param_groups[0]["lr"] for one in (stage.parts.optimizer, stage.optimizers["optimizer"]))
    assert fast == pytest.approx(10 * slow)
    for step in range(3, 12):
        last = stage.update(data.at(2), step)
    assert float(last["parts_discriminator"]) < float(late["parts_discriminator"])


def test_terms_of_eyes_and_mouth_enter_the_total_by_their_weights(tmp_path: Path):
    batch = stream(tmp_path / "faces").at(0)
    found = _with_parts().update(batch, 2)
    weights = {"l1": 1.0, "perceptual": 0.5, "codebook": 1.0, "parts_adversarial": 0.1, "parts_style": 200.0}
    parts = sum(weight * float(found[name]) for name, weight in weights.items())
    assert float(found["total"] - found["adaptive_weight"] * found["adversarial"]) == pytest.approx(parts, rel=1e-4)
    assert _restoration().parts is None


def test_sizes_that_do_not_fit_the_parts_are_refused():
    with pytest.raises(ValueError, match=r"PartsAdversary: expected one size for each of 3 parts, all multiples of 4"):
        _with_parts(parts_sizes=(8, 8))
    with pytest.raises(ValueError, match=r"multiples of 4, got \(8, 8, 10\)"):
        _with_parts(parts_sizes=(8, 8, 10))


def test_the_decoders_attention_learns_faster(tmp_path: Path):
    stage, data = _restoration(attention_rate=10.0), stream(tmp_path / "faces")
    stage.update(data.at(0), 200)
    slow, fast = (group["lr"] for group in stage.optimizers["optimizer"].param_groups)
    assert fast == pytest.approx(10 * slow)
    names = [name for name, value in stage.model.named_parameters() if value.requires_grad and is_attention(name)]
    assert len(names) == len(stage.optimizers["optimizer"].param_groups[1]["params"])
    assert {name.split(".")[-2] for name in names} == {"norm", "norm_guide", "query", "key", "value", "project"}
    assert not is_attention("encoder.middle.1.query.weight") and not is_attention("decoder.norm_out.weight")


def test_a_restorer_begins_as_the_dictionary_left_it():
    dictionary = _dictionary_model()
    for network in (TINY, replace(TINY, decoder_attention=(-2, -1))):
        model = fresh(network, dictionary)
        mine, theirs = model.decoder.levels[0].steps, dictionary.decoder.levels[0].steps
        each = 2 if len(network.decoder_attention) == 2 else 1
        assert torch.equal(mine[each].conv1.weight, theirs[1].conv1.weight)
        assert torch.equal(model.decoder.middle[1].query.weight, dictionary.decoder.middle[1].query.weight)
        assert torch.equal(model.codebook.weight, dictionary.codebook.weight)
        assert torch.equal(model.encoder.conv_in.weight, dictionary.encoder.conv_in.weight)


def test_identity_without_its_network_is_refused():
    with pytest.raises(ValueError, match="the settings weigh identity and there is no network for it; pass identity="):
        _restoration(weights=numbers.restoration().weights)


def test_the_published_numbers_stand_in_the_settings():
    settings = numbers.restoration()
    assert (settings.learning_rate, settings.attention_rate, settings.adversarial_start) == (7.2e-5, 10.0, 10_001)
    assert rate_at(settings, settings.steps) == settings.learning_rate
    assert settings.weights["style"] == 1e9 and "style" not in numbers.restoration_plus().weights
    assert (settings.weights["parts_adversarial"], settings.weights["parts_style"]) == (1.5, 2000.0)
    assert (settings.parts_sizes, settings.parts_betas) == ((80, 80, 120), (0.9, 0.99))
    assert numbers.restoration_plus().weights["parts_adversarial"] == 1.0
    with torch.device("meta"):
        whole = fresh(numbers.Network(), vqgan(numbers.Network()))
    # the published model has 72,680,003 parameters, of which six tensors of its encoder are read by nothing
    assert sum(value.numel() for value in whole.parameters()) == 72_680_003 - 6 * 512
