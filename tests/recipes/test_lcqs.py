"""LCQS at a tiny size: what each stage trains and where it begins, that runs resume and split, and what is refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import codeprior
from codeprior.encoders.timm import _strides as timm_strides
from codeprior.estimators import load_estimator
from codeprior.families import find_family
from codeprior.generators import MappingNetwork, StyleGANGenerator, SynthesisNetwork
from codeprior.images import to_unit
from codeprior.losses import PerceptualLoss, style_loss
from codeprior.recipes.lcqs import settings as numbers
from codeprior.recipes.lcqs import train as command
from codeprior.recipes.lcqs.encoder_stage import EncoderStage
from codeprior.recipes.lcqs.model import LCQS, QualityShift, StyleEncoder, fresh
from codeprior.recipes.lcqs.shift_stage import ShiftStage
from codeprior.recipes.lcqs.unpaired import Sides
from codeprior.restorers import Restorer
from codeprior.stages import loss_weights
from codeprior.stages.earlier import load_part
from codeprior.training import TorchEngine
from tests.recipes.steps import assert_a_resumed_run_is_the_same
from tests.torture.stages import Edges, stream
from tests.training.ranks import on_ranks

SIZE = 32
TINY = replace(
    numbers.small_network(), size=SIZE, dim=8, narrow=1 / 64, backbone="test_resnet", stride=4, cells=2, hidden=6,
    discriminator_narrow=1 / 64,
)  # fmt: skip
SMALL = {"network": TINY, "degradation": {"lcqs-mild": 1.0}, "degradation_size": 64, "batch": 4, "steps": 40}


class _Maps(torch.nn.Module):
    """A feature network of one layer, whose features are colours."""

    channels = (4,)

    def __init__(self):
        super().__init__()
        self.colours = torch.nn.Conv2d(3, 4, 1)

    def forward(self, image):
        return [self.colours(image)]


@pytest.fixture(autouse=True)
def _partial_presets(recwarn):
    """The presets of LCQS say that their source leaves things open; that is known here."""


def _model(seed: int = 0, *, moved: bool = False) -> LCQS:
    torch.manual_seed(seed)
    model = fresh(TINY)
    if moved:  # off the start at which both encoders are alike and the shift is zero
        with torch.no_grad():
            for value in [*model.low.parameters(), *model.shift.parameters()]:
                value.add_(0.05 * torch.randn_like(value))
    return model


def _encoders(folder: Path, seed: int = 0, *, engine=None, **changes) -> EncoderStage:
    # `Edges` has no features whose texture could be compared
    weights = {"weights": loss_weights(l1=1.0, perceptual=0.15)}
    settings = replace(numbers.encoders_small(), **SMALL | weights | changes)
    return EncoderStage(
        settings, model=_model(seed), low=_low(folder, settings.batch), perceptual=Edges(), engine=engine
    )


def _shift(folder: Path, seed: int = 0, *, engine=None, **changes) -> ShiftStage:
    weights = {"weights": dict(numbers.shift().weights)}  # `Edges` has no features whose texture could be compared
    settings = replace(numbers.shift_small(), **SMALL | weights | {"r1_every": 2, "warmup": 0} | changes)
    model = _model(seed, moved=True)
    return ShiftStage(settings, model=model, low=_low(folder, settings.batch), perceptual=Edges(), engine=engine)


def _low(folder: Path, batch: int = 4):
    return stream(folder / "low", batch=batch)


def _faces(count: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("build", [_encoders, _shift])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(build, tmp_path: Path):
    assert_a_resumed_run_is_the_same(partial(build, tmp_path), tmp_path, steps=5)


@pytest.mark.parametrize("build", [_encoders, _shift])
def test_two_ranks_find_the_gradients_of_one(build, tmp_path: Path):
    for name in ("faces", "low"):
        stream(tmp_path / name)
    whole = _gradients(build, tmp_path)
    assert len(whole) > 20
    for split in on_ranks(2, _on_rank, build, tmp_path):
        assert set(split) == set(whole)
        for name, value in whole.items():
            # rounding of sums in another order; the damage is estimated in single precision
            torch.testing.assert_close(torch.from_numpy(split[name]), value, rtol=1e-5, atol=1e-7, msg=name)


def _on_rank(build, folder):
    return {name: value.numpy() for name, value in _gradients(build, folder, TorchEngine()).items()}


def _gradients(build, folder, engine=None):
    torch.set_default_dtype(torch.float64)
    try:
        made = build(folder, engine=engine, average=None)
    finally:
        torch.set_default_dtype(torch.float32)
    made.model.double()
    sides = made.unpaired
    made.unpaired = lambda batch, step: Sides(*(side.double() for side in sides(batch, step)))
    made.update(stream(folder / "faces").at(0), 4)
    return {
        f"{part}.{name}": value.grad.clone()
        for part, module in made.saved.items()
        if isinstance(module, torch.nn.Module)
        for name, value in module.named_parameters()
        if value.grad is not None
    }


def test_the_first_stage_trains_one_encoder_for_both_sides_and_the_generator(tmp_path: Path):
    stage, data = _encoders(tmp_path, learning_rate=1e-3), stream(tmp_path / "faces")
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    losses = [float(stage.update(data.at(0), step)["l1"]) for step in range(12)]
    assert losses[-1] < losses[0]
    kept = {name for name, value in stage.model.state_dict().items() if torch.equal(value, before[name])}
    parts = {name.partition(".")[0] for name in kept}
    assert parts == {"shift", "estimator", "generator"}
    # nothing is added without noise, so its weights learn nothing; neither does what no style scales
    assert all(name.endswith(("noise_weight", "kernel")) for name in kept if name.startswith("generator"))
    after = stage.result.state_dict()
    assert all(torch.equal(after[f"high.{name}"], after[f"low.{name}"]) for name in stage.model.low.state_dict())


def test_textures_are_compared_without_their_places_and_the_network_runs_once(tmp_path: Path):
    torch.manual_seed(2)
    perceptual = PerceptualLoss(_Maps())
    settings = replace(numbers.encoders_small(), **SMALL)
    stage = EncoderStage(settings, model=_model(), low=_low(tmp_path), perceptual=perceptual)
    first, second = _faces(2), _faces(4)[2:]
    names = {"plain": "l1", "perceptual": "perceptual", "texture": "texture"}
    terms = stage.compared(first, second, **names)
    maps = [perceptual.features(image) for image in (first, second)]
    assert set(terms) == set(settings.weights) == {"l1", "perceptual", "texture"}
    torch.testing.assert_close(terms["texture"], style_loss(*maps))
    torch.testing.assert_close(terms["perceptual"], perceptual(first, second))
    torch.testing.assert_close(terms["l1"], (first - second).abs().mean())
    # a mirrored face has the texture of the face: every feature of this network is a colour of one pixel
    mirrored = stage.compared(first, first.flip(-1), **names)
    assert float(mirrored["texture"]) < 1e-6 < 1e-3 < float(mirrored["perceptual"])


def test_two_encoders_learn_apart_and_the_generator_stays_where_its_rate_is_zero(tmp_path: Path):
    stage = _encoders(tmp_path, shared=False, generator_rate=0.0)
    before = {name: value.clone() for name, value in stage.model.generator.state_dict().items()}
    stage.update(stream(tmp_path / "faces").at(0), 0)
    assert all(torch.equal(value, before[name]) for name, value in stage.model.generator.state_dict().items())
    high, low = stage.model.high, stage.model.low
    assert isinstance(high, StyleEncoder) and isinstance(low, StyleEncoder)
    assert not torch.equal(high.to_styles.weight, low.to_styles.weight)
    assert not torch.equal(high.features.to_code.weight, low.features.to_code.weight)


def test_the_second_stage_trains_the_shift_and_the_encoder_of_degraded_faces(tmp_path: Path):
    stage, data = _shift(tmp_path), stream(tmp_path / "faces")
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    judges = [value.clone() for value in stage.judges.parameters()]
    logged = stage.update(data.at(0), 0)
    assert set(logged) == {*numbers.shift().weights, "total", "discriminator_high", "discriminator_low", "skipped"}
    moved = {name for name, value in stage.model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in moved} == {"low", "shift"}
    assert {name for name in before if name.startswith("shift")} <= moved
    assert any(not torch.equal(value, old) for value, old in zip(stage.judges.parameters(), judges, strict=True))


def test_a_step_is_the_cycle_of_the_specification(tmp_path: Path):
    stage = _shift(tmp_path)
    model, sides = stage.model, stage.unpaired(stream(tmp_path / "faces").at(0), 0)
    damage = model.damage(sides.low)
    made = stage.network(*sides, damage)
    n, clean, degraded = model.shift(damage), model.high(sides.high), model.low(sides.low)
    torch.testing.assert_close(made.restored, model.generator(degraded + n))
    torch.testing.assert_close(made.degraded, model.generator(clean - n))
    back = model.generator(model.low(made.degraded) + n), model.generator(model.high(made.restored) - n)
    torch.testing.assert_close(made.there_and_back, torch.cat(back))
    torch.testing.assert_close(made.rebuilt, model.generator(degraded))
    terms = stage.terms(made, sides, damage)
    assert float(terms["damage"]) == pytest.approx(float((model.damage(made.degraded) - damage).square().mean()))
    assert float(terms["cycle"]) == pytest.approx(
        float((back[0] - sides.high).abs().mean() + (back[1] - sides.low).abs().mean()) / 2, rel=1e-5
    )


def test_the_shift_begins_at_the_difference_of_the_mean_styles(tmp_path: Path):
    stage, high = _shift(tmp_path, start_faces=5), stream(tmp_path / "faces").source
    stage.begin(high)
    (sides,) = stage.unpaired.first(high, 5)
    with torch.no_grad():
        difference = (stage.model.high(sides.high) - stage.model.low(sides.low)).mean(0)
        begun = stage.model.shift(stage.model.damage(sides.low))
    assert stage.model.shift.space == "w+"
    torch.testing.assert_close(begun.mean(0), difference, rtol=1e-4, atol=1e-5)
    for name, value in stage.model.shift.state_dict().items():
        assert torch.equal(stage.result.shift.state_dict()[name], value)


def test_the_shift_begins_at_the_way_of_each_damage():
    torch.manual_seed(0)
    shift = QualityShift(4, slots=2, space="w+", hidden=16)
    kinds = torch.tensor([[0.0, 0.0, 1.0, 2.0, 0.0], [1.0, 1.0, 2.0, 4.0, -3.0]])
    ways = torch.randn(2, 2, 4)
    noise = 0.1 * torch.randn(200, 2, 4)
    shift.begin_at(ways.repeat(100, 1, 1) + noise, kinds.repeat(100, 1))
    # the ridge keeps a hundredth of the way between them, the noise a hundredth of its own
    torch.testing.assert_close(shift(kinds), ways, rtol=0, atol=0.05)


def test_each_slot_has_a_shift_of_its_own_where_asked():
    shift, everywhere = QualityShift(8, slots=3, space="w+"), QualityShift(8, slots=3)
    wanted = torch.arange(24.0).reshape(3, 8)
    for one in (shift, everywhere):
        one.begin_at(wanted[None], torch.zeros(1, 5))
    damage = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shift(damage), wanted.expand(2, -1, -1))
    torch.testing.assert_close(everywhere(damage), wanted.mean(0).expand(2, 3, -1))
    with pytest.raises(ValueError, match="space is 'w' or 'w\\+', got 'z'"):
        QualityShift(8, slots=3, space="z")  # pyright: ignore[reportArgumentType]


def test_the_level_goes_straight_from_the_degraded_face_along_the_shift():
    model, faces = _model(moved=True), _faces(3)
    start, end = model.styles(faces, 0.0), model.styles(faces, 1.0)
    torch.testing.assert_close(start, model.low(faces))
    torch.testing.assert_close(model.styles(faces, 0.25), start + 0.25 * (end - start))
    each = model.restore(faces, level=torch.tensor([0.0, 0.5, 1.25]))
    for face, answer, level in zip(faces, each, (0.0, 0.5, 1.25), strict=True):
        torch.testing.assert_close(answer, model.restore(face[None], level=level)[0], rtol=1e-4, atol=1e-5)
    assert not each.requires_grad


def test_the_estimator_is_the_librarys_own():
    model, faces = _model(), _faces(2, 64)
    own = load_estimator()
    torch.testing.assert_close(model.damage(faces), own.coordinates(to_unit(faces)))
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in model.estimator.state_dict().items())


def test_the_family_loads_its_weights_and_takes_a_level(tmp_path: Path):
    model = _model(moved=True)
    codeprior.save(tmp_path / "lcqs.safetensors", model)
    family = find_family("lcqs")
    restorer = Restorer(family.load(tmp_path / "lcqs.safetensors"), options={"level": 0.5})
    faces = to_unit(_faces())
    expected = to_unit(model.restore(faces * 2 - 1, level=0.5))
    torch.testing.assert_close(restorer.restore(faces).images, expected)
    codeprior.save(tmp_path / "other.safetensors", QualityShift(8))
    with pytest.raises(ValueError, match="holds a QualityShift; an LCQS restores faces"):
        family.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="option level: expected a number from 0 to 1.5, got 2"):
        Restorer(model, options={"level": 2.0}).restore(faces)


def test_a_prior_brings_its_generator_and_its_mean_style():
    torch.manual_seed(1)
    prior = StyleGANGenerator(MappingNetwork(8, layers=2), SynthesisNetwork(SIZE, dim=8, multiplier=1, narrow=1 / 64))
    model = fresh(TINY, prior=prior)
    assert model.generator is prior.synthesis
    mean = prior.mapping.mean(generator=torch.Generator().manual_seed(0))
    for encoder in (model.high, model.low):
        assert isinstance(encoder, StyleEncoder)
        torch.testing.assert_close(encoder.to_styles.bias.reshape(-1, 8), mean.expand(encoder.slots, -1))


def test_bad_settings_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="expected weights of l1, perceptual, texture, got hinge"):
        _encoders(tmp_path, weights=loss_weights(l1=1.0, hinge=1.0))
    with pytest.raises(ValueError, match="expected weights of adversarial, .*, damage, got l1"):
        _shift(tmp_path, weights=loss_weights(l1=1.0))
    with pytest.raises(ValueError, match="expected weights of l1, perceptual, texture, got none"):
        _encoders(tmp_path, weights={})
    for build in (_encoders, _shift):
        with pytest.raises(ValueError, match="set accumulate=1"):
            build(tmp_path, accumulate=2)
    with pytest.raises(ValueError, match="expected r1_every of 1 step or more, got 0"):
        _shift(tmp_path, r1_every=0)
    settings = replace(numbers.shift_small(), **SMALL)
    with pytest.raises(ValueError, match="expected as many degraded faces a step as clean ones, 4, got 2"):
        ShiftStage(settings, model=_model(), low=_low(tmp_path, 2), perceptual=Edges())
    with pytest.raises(ValueError, match="expected 32×32 images, got 64×64"):
        _model()(_faces(1, 64))
    with pytest.raises(ValueError, match="for 32 px and styles of width 8, the prior is for 64 px and 8"):
        fresh(TINY, prior=SynthesisNetwork(64, dim=8, narrow=1 / 64))
    with pytest.raises(ValueError, match="the prior concatenates noise"):
        fresh(TINY, prior=SynthesisNetwork(SIZE, dim=8, narrow=1 / 64, noise="concatenated"))
    with pytest.raises(ValueError, match="expected a SynthesisNetwork as prior, got a Linear"):
        fresh(TINY, prior=torch.nn.Linear(1, 1))


def test_the_command_trains_both_stages_and_goes_on_only_over_the_same_pictures(tmp_path: Path, monkeypatch, capsys):
    for name in ("faces", "low", "others"):
        stream(tmp_path / name)
    (next((tmp_path / "others").glob("*"))).unlink()
    small = {"encoders_small": numbers.encoders_small, "shift_small": numbers.shift_small}
    tiny = {name: lambda make=make: replace(make(), **SMALL) for name, make in small.items()}
    monkeypatch.setattr(command, "SETTINGS", tiny)
    words = ["--faces", str(tmp_path / "faces"), "--out", str(tmp_path / "runs"), "--batch", "2", "--threads", "1",
             "--perceptual-weights", "random", "--preview-every", "1"]  # fmt: skip
    assert command.main(["small", *words, "--low", str(tmp_path / "low"), "--steps", "1"]) == 0
    assert isinstance(find_family("lcqs").load(tmp_path / "runs/shift_small/restorer.safetensors"), LCQS)
    assert (tmp_path / "runs/shift_small/previews/step-00000001.png").exists()
    low = ["--low", str(tmp_path / "low"), "--steps", "1"]
    on = [
        *words,
        *low,
        "--encoders",
        str(tmp_path / "runs/encoders_small"),
        "--out",
        str(tmp_path / "on"),
        "--rate",
        "0",
    ]
    assert command.main(["encoders_small", *on, "--prior", "prior.safetensors"]) == 2
    assert "--encoders brings a generator too; leave --prior out" in capsys.readouterr().err
    assert command.main(["encoders_small", *on]) == 0
    begun, kept = (
        load_part(tmp_path / folder / "encoders.safetensors", LCQS) for folder in ("runs/encoders_small", "on")
    )
    for part in ("high", "generator"):
        for name, value in begun.get_submodule(part).state_dict().items():
            assert torch.equal(kept.get_submodule(part).state_dict()[name], value), name
    everywhere = replace(numbers.shift_small(), **SMALL | {"network": replace(TINY, space="w")})
    monkeypatch.setitem(tiny, "shift_small", lambda: everywhere)
    assert command.main(["shift_small", *on, "--out", str(tmp_path / "everywhere")]) == 0
    assert load_part(tmp_path / "everywhere/restorer.safetensors", LCQS).shift.space == "w"
    assert command.main(["small", *words, "--low", str(tmp_path / "others"), "--steps", "2"]) == 2
    assert "holds a run with other settings: settings.low was" in capsys.readouterr().err


def test_the_numbers_of_the_slides_stand_in_the_settings():
    network = numbers.Network()
    assert (network.size, network.backbone, network.space) == (256, "resnet34", "w")
    assert set(numbers.shift().degradation) == {"lcqs-mild", "lcqs-moderate", "lcqs-severe"}


def test_the_small_network_loads_in_a_process_that_has_never_built_its_backbone(tmp_path: Path):
    model = fresh(numbers.small_network())
    codeprior.save(tmp_path / "lcqs.safetensors", model)
    timm_strides.cache_clear()
    loaded = find_family("lcqs").load(tmp_path / "lcqs.safetensors")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
