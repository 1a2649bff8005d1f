"""The numbers of the configurations are the published ones, and the small variants come from them."""

import dataclasses

import pytest

from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.settings import RECIPES


def test_paper_values():
    # Tsai et al. 2024, experiment setup: batch 32, rate 1.44e-4 throughout, steps of the four stages
    stages = [settings.hq_codebook(), settings.lq_codebook(), settings.association(), settings.restoration()]
    assert [stage.steps for stage in stages] == [700_000, 400_000, 70_000, 100_000]
    assert {(stage.batch, stage.learning_rate, stage.decay_from) for stage in stages} == {(32, 1.44e-4, 1.0)}
    assert [stage.degradation for stage in stages] == [None, "daefr", "daefr", "daefr"]
    assert dict(stages[0].weights) == {"l1": 1.0, "perceptual": 1.0, "adversarial": 0.8, "codebook": 1.0}
    assert dict(stages[3].weights) == {"code": 1.0, "feature": 10.0}


def test_released_values():
    # the released scripts: rate 4.5e-6 times the whole batch; epochs of 70,000 images
    stages = [
        (settings.hq_codebook_released(), 12, 330, None, 30_001),
        (settings.lq_codebook_released(), 12, 250, "daefr-codebook-lq", 30_001),
        (settings.association_released(), 8, 50, "daefr-association", 11),
        (settings.restoration_released(), 8, 100, "daefr", None),
    ]
    for recipe, batch, epochs, degradation, start in stages:
        assert recipe.batch == batch and recipe.degradation == degradation
        assert recipe.learning_rate == pytest.approx(4.5e-6 * batch)
        assert recipe.steps == epochs * -(-70_000 // batch)
        if start is not None:
            assert recipe.adversarial_start == start and recipe.generator_pass == "sequential"
            assert (recipe.commitment_term, recipe.codebook_term) == (1.0, 0.25)


def test_small_variants_differ_from_the_papers_only_where_they_say():
    changed = {
        "hq_codebook": {
            "network", "degradation_size", "batch", "whole_batch", "steps", "learning_rate", "betas", "warmup", "decay",
            "decay_from", "clip", "average", "weights", "perceptual_from", "codes_from", "adversarial_from",
            "discriminator_rest", "perceptual", "discriminator_channels", "discriminator_norm", "crop", "crop_until",
        },
        "restoration": {
            "network", "degradation", "batch", "steps", "learning_rate", "betas", "warmup", "decay", "decay_from",
            "clip", "average", "decoding",
        },
        "fidelity": {
            "network", "batch", "steps", "learning_rate", "warmup", "average", "tap_encoder", "perceptual", "weights",
        },
        "decoder": {
            "network", "batch", "steps", "learning_rate", "warmup", "average", "tap_encoder", "perceptual", "weights",
        },
    }  # fmt: skip
    for name, fields in changed.items():
        real, small = RECIPES[name](), RECIPES[f"{name}_small"]()
        assert {f.name for f in dataclasses.fields(real) if getattr(real, f.name) != getattr(small, f.name)} == fields
    assert settings.single_encoder_small() == dataclasses.replace(settings.restoration_small(), branches="single")


def test_every_small_stage_has_the_network_of_the_prior():
    small = [RECIPES[name]().network for name in RECIPES if name.endswith("_small")]
    assert len(small) == 7 and set(small) == {settings.small_network()}
    assert settings.small_network().grid == (16, 16) and settings.Network().grid == (16, 16)


def test_medium_stages_are_the_small_ones_on_larger_faces():
    larger = settings.medium_network()
    assert larger == dataclasses.replace(settings.small_network(), size=256) and larger.grid == (32, 32)
    for small, medium in zip(settings.SMALL, settings.MEDIUM, strict=True):
        one, other = RECIPES[small](), RECIPES[medium]()
        differ = {f.name for f in dataclasses.fields(one) if getattr(one, f.name) != getattr(other, f.name)}
        assert other.network == larger and differ <= {"network", "crop"}, medium


def test_configurations_cannot_be_changed_in_passing():
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.hq_codebook().batch = 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        settings.hq_codebook().weights["l1"] = 0  # pyright: ignore[reportIndexIssue]
