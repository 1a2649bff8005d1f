"""VQFR's two stages at a tiny size: what each trains, and that a resumed run is the same run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codeprior import load
from codeprior.discriminators import WaveletDiscriminator
from codeprior.recipes.daefr.restore import EMBEDDED
from codeprior.recipes.vqfr import settings as numbers
from codeprior.recipes.vqfr import train as command
from codeprior.recipes.vqfr.joint_restoration_stage import JointRestorationStage
from codeprior.recipes.vqfr.model import fresh, fresh_first, vqgan
from codeprior.recipes.vqfr.prior_stage import PriorStage
from codeprior.recipes.vqfr.restoration_stage import RestorationStage
from codeprior.stages import VQGANStage, rate_at
from codeprior.training import TorchEngine
from tests.recipes.steps import assert_a_resumed_run_is_the_same, assert_the_hatch_counts, perceptual
from tests.torture.stages import Edges, stream

TINY = replace(
    numbers.small_network(), size=32, dim=4, codes=8, channels=8, multipliers=(1, 2), groups=4, condition_channels=2
)  # fmt: skip
FIRST = replace(
    numbers.first_small_network(), size=32, dim=4, codes=8, channels=8, multipliers=(1, 2), groups=4,
    condition_channels=2,
)  # fmt: skip
SMALL = {"network": TINY, "degradation_size": 32, "batch": 4, "discriminator_channels": 4, "discriminator_layers": 1}


def _teacher():
    torch.manual_seed(0)
    teacher = vqgan(TINY)
    torch.nn.init.normal_(teacher.codebook.weight)
    return teacher


def _prior(seed: int = 0) -> VQGANStage:
    settings = replace(
        numbers.prior_small(), **SMALL, steps=40, adversarial_from=None, adversarial_start=3, codes_from=0.0, crop=None,
        whole_batch=None,
    )  # fmt: skip
    torch.manual_seed(seed)
    return VQGANStage(settings, model=vqgan(TINY, moving_average=True), size=32, perceptual=Edges())


def _restoration(seed: int = 0) -> RestorationStage:
    teacher = _teacher()
    torch.manual_seed(seed)
    settings = replace(numbers.restoration_small(), **SMALL, adversarial_from=None, adversarial_start=2)
    return RestorationStage(settings, teacher=teacher, perceptual=Edges())


def _with_the_whole_face(seed: int = 0) -> RestorationStage:
    teacher = _teacher()
    torch.manual_seed(seed)
    settings = replace(
        numbers.restoration_small(), **SMALL, adversarial_from=None, adversarial_start=2, r1_every=4,
        whole_narrow=1 / 64, weights=numbers.restoration().weights,
    )  # fmt: skip
    return RestorationStage(settings, teacher=teacher, perceptual=Edges())


def _prior_of_whole_faces(seed: int = 0, **changes) -> PriorStage:
    changes = {
        "adversarial_from": None, "adversarial_start": 3, "codes_from": 0.05, "estimated_every": 2, "r1_every": 4,
        "estimated_until": 4, "steps": 40, "whole_narrow": 1 / 64, "degradation_size": 32, "batch": 4,
    } | changes  # fmt: skip
    torch.manual_seed(seed)
    settings = replace(numbers.prior_v1_small(), network=FIRST, **changes)
    return PriorStage(settings, model=vqgan(FIRST), perceptual=Edges())


def _joint(seed: int = 0, **changes) -> JointRestorationStage:
    changes = {
        "adversarial_from": None, "adversarial_start": 2, "r1_every": 4, "steps": 40, "whole_narrow": 1 / 64,
        "degradation_size": 32, "batch": 4, "discriminator_channels": 4, "discriminator_layers": 1, "warmup": 0,
        "weights": numbers.restoration_v1().weights,
    } | changes  # fmt: skip
    torch.manual_seed(0)
    teacher = vqgan(FIRST)
    torch.nn.init.normal_(teacher.codebook.weight)
    torch.manual_seed(seed)
    settings = replace(numbers.restoration_v1_small(), network=FIRST, **changes)
    return JointRestorationStage(settings, teacher=teacher, perceptual=perceptual())


@pytest.mark.parametrize("build", [_prior, _prior_of_whole_faces, _restoration, _with_the_whole_face, _joint])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(build, tmp_path: Path):
    assert_a_resumed_run_is_the_same(build, tmp_path)


def _small_joint() -> JointRestorationStage:
    return _joint(weights=numbers.restoration_v1_small().weights)


@pytest.mark.parametrize(("build", "terms"), [(_restoration, ("hatch",)), (_small_joint, ("texture_hatch", "hatch"))])
def test_the_small_stages_keep_patterns_of_two_pixels_away(build, terms, tmp_path: Path):
    assert_the_hatch_counts(build, tmp_path, terms=terms)
    for published in (numbers.restoration(), numbers.restoration_v1()):
        assert not any("hatch" in name for name in published.weights)


def test_the_small_first_version_stands_on_the_embedded_prior(tmp_path: Path):
    """Which works at half the pixels and has two tables of codes; the branch and its head then do so as well."""
    teacher = load(next(iter(EMBEDDED.values())).parent / "hq_vqgan_small.safetensors").eval()
    network = numbers.first_small_network()
    for part, mine in (("encoder", vqgan(network).encoder), ("decoder", vqgan(network).decoder)):
        theirs = getattr(teacher, part)
        assert (mine.dim, mine.stride, mine.unshuffle) == (theirs.dim, theirs.stride, theirs.unshuffle)
    assert network.codes == teacher.codebook.size
    model = fresh_first(network, teacher).eval()
    image = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = model(image)
    torch.testing.assert_close(found.texture, teacher(image).image)
    assert found.image.shape == image.shape and model.branch.strides == [8, 4, 2]
    with torch.no_grad():  # with a head that reads the face alone, each pixel comes back to its own place
        model.conv_out.weight.zero_(), model.conv_out.bias.zero_()
        for channel in range(12):
            model.conv_out.weight[channel, model.branch.channels + channel, 1, 1] = 1
    torch.testing.assert_close(model.restore(image), image)


def test_everything_but_the_prior_learns_and_the_terms_begin_when_they_should(tmp_path: Path):
    stage, data = _restoration(), stream(tmp_path / "faces")
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    batch = data.at(0)
    early, late = (stage.update(batch, step) for step in (0, 2))
    assert set(late) - set(early) == {"adversarial", "adaptive_weight", "discriminator"}
    found = [float(stage.update(batch, step)["l1"]) for step in range(3, 15)]
    assert found[-1] < float(early["l1"])
    moved = {
        name.split(".")[0] for name, value in stage.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"encoder", "predictor", "branch"}


def test_a_discriminator_of_the_whole_face_learns_beside_that_of_patches_with_r1_every_few_steps(tmp_path: Path):
    stage, data = _with_the_whole_face(), stream(tmp_path / "faces")
    assert stage.whole is not None and {"whole_discriminator", "whole_discriminator_optimizer"} < set(stage.saved)
    before = stage.whole.discriminator.score.weight.clone()
    assert not {name for name in stage.update(data.at(0), 0) if name.startswith("whole")}
    assert torch.equal(stage.whole.discriminator.score.weight, before)
    found = {step: stage.update(data.at(step), step) for step in (2, 4)}
    assert {name for name in found[2] if name.startswith("whole")} == {"whole", "whole_discriminator"}
    assert set(found[4]) - set(found[2]) == {"whole_r1"} and float(found[4]["whole_r1"]) > 0
    assert not torch.equal(stage.whole.discriminator.score.weight, before)
    # the branch at 2e-5 = 0.2 · 1e-4 in the published settings, and this discriminator as fast as the branch
    fast = stage.whole.optimizer.param_groups[0]["lr"]
    assert fast == pytest.approx(stage.optimizers["branch_optimizer"].param_groups[0]["lr"])
    published = numbers.restoration()
    assert (published.weights["whole"], published.r1_weight, published.r1_every) == (1.0, 10.0, 16)


def test_a_prior_of_whole_faces_finds_its_codes_anew_until_a_step_and_is_judged_from_another(tmp_path: Path):
    stage, data = _prior_of_whole_faces(), stream(tmp_path / "faces")
    assert stage.adversary.discriminator.__class__ is WaveletDiscriminator
    assert [step for step in range(12) if stage.estimates(step)] == [2, 4]
    drawn = stage.model.codebook.weight.clone()
    found = [stage.update(data.at(step), step) for step in range(2)]
    # no latent is exchanged for a code before, so nothing but k-means moves them
    assert torch.equal(stage.model.codebook.weight, drawn)
    assert not any("discriminator" in one or "adversarial" in one for one in found)
    found.append(stage.update(data.at(2), 2))
    assert not torch.isclose(stage.model.codebook.weight, drawn).any()
    found += [stage.update(data.at(step), step) for step in range(3, 6)]
    assert {"adversarial", "discriminator"} <= set(found[3]) and "r1" in found[4] and "r1" not in found[5]
    batch = data.at(0)
    losses = [float(stage.update(batch, step)["l1"]) for step in range(6, 16)]
    assert losses[-1] < losses[0]


def test_a_prior_of_whole_faces_refuses_patches():
    with pytest.raises(ValueError, match="PriorStage: its discriminator sees whole faces, got discriminator='patches'"):
        _prior_of_whole_faces(discriminator="patches")


def test_the_first_versions_restorer_learns_by_both_pictures_and_keeps_its_codes(tmp_path: Path):
    stage, data = _joint(learning_rate=1e-3), stream(tmp_path / "faces")
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    early, late = (stage.update(data.at(step), step) for step in (0, 2))
    of_texture = {
        "texture_adversarial", "texture_adaptive_weight", "texture_discriminator", "texture_whole",
        "texture_whole_discriminator",
    }  # fmt: skip
    assert of_texture | {"texture_whole_r1", "texture_style", "style", "feature"} <= set(early)
    # the final picture's discriminators begin later
    assert set(late) - set(early) == {name.removeprefix("texture_") for name in of_texture}
    assert "l1" not in late and "texture_l1" in late
    kept = {name for name, value in stage.model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {"codebook.weight"}
    batch, named = data.at(1), stage.recipe.weights
    losses = [stage.update(batch, step) for step in range(3, 13)]
    # all that compares with the truth; style weighs most of it
    compared = [name for name in named if not name.endswith(("adversarial", "whole"))]
    sums = [sum(float(one[name]) * named[name] for name in compared) for one in losses]
    assert sums[-1] < sums[0]


def test_a_texture_picture_that_no_weight_judges_has_no_discriminators(tmp_path: Path):
    stage, data = _small_joint(), stream(tmp_path / "faces")
    early, late = (stage.update(data.at(step), step) for step in (0, 2))
    assert not any(name.startswith("texture") and "l1" not in name for name in stage.saved)
    assert set(late) - set(early) == {"adversarial", "adaptive_weight", "discriminator", "whole", "whole_discriminator"}


def test_the_published_numbers_of_the_first_version_stand_in_the_settings():
    prior, restoration = numbers.prior_v1(), numbers.restoration_v1()
    assert (prior.first_coded, prior.estimated_every, prior.estimated_until) == (10_000, 2_000, 30_000)
    assert (prior.discriminator, numbers.prior().discriminator) == ("wavelets", "whole")
    assert (prior.r1_weight, prior.r1_every, prior.adversarial_start, prior.steps) == (10.0, 16, 50_000, 800_000)
    assert (restoration.learning_rate, restoration.betas, restoration.adversarial_start) == (1e-5, (0.5, 0.9), 5_000)
    assert "l1" not in restoration.weights and restoration.weights["texture_style"] == 2000.0
    with torch.device("meta"):
        teacher = vqgan(numbers.first_network())
        whole = fresh_first(numbers.first_network(), teacher)
    assert sum(value.numel() for value in teacher.parameters()) == 52_781_827
    assert sum(value.numel() for value in whole.parameters()) == 76_563_583
    assert sum(value.numel() for value in whole.parameters() if value.requires_grad) == 76_301_439


def test_the_published_numbers_stand_in_the_settings():
    prior, restoration = numbers.prior(), numbers.restoration()
    assert [rate_at(prior, step) for step in (0, 500_000, 650_000)] == [1e-4, 5e-5, 2.5e-5]
    # encoder and predictor at 1e-4, branch and discriminator at 2e-5
    assert restoration.learning_rate * restoration.branch_rate == pytest.approx(2e-5)
    with torch.device("meta"):
        whole = fresh(numbers.Network(), vqgan(numbers.Network()))
    assert sum(value.numel() for value in whole.parameters()) == 83_486_539


@pytest.mark.parametrize("version", ["", "_v1"])
def test_the_command_misses_the_first_stage_in_words(version: str, tmp_path: Path, capsys):
    stream(tmp_path / "faces")
    name = f"restoration{version}_small"
    call = [name, "--faces", str(tmp_path / "faces"), "--out", str(tmp_path / name)]
    assert command.main([*call, "--device", "cpu", "--perceptual-weights", "random"]) == 2
    assert (
        f"prior{version}_small/vqgan.safetensors is missing; run the stage before this one" in capsys.readouterr().err
    )


def test_the_command_builds_the_stage_that_the_settings_are_for():
    arguments = (
        command.command()
        .parser()
        .parse_args(["prior_small", "--faces", "f", "--out", "o", "--perceptual-weights", "random"])
    )
    found = {
        name: type(command.build(numbers.SETTINGS[name](), arguments, Path("o"), TorchEngine("cpu")))
        for name in ("prior_small", "prior_v1_small")
    }
    assert found == {"prior_small": VQGANStage, "prior_v1_small": PriorStage}
