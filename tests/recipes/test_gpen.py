"""GPEN: the model and its variants, both stages at a tiny size, that a resumed run is the same run, what is refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from codeprior import save
from codeprior.families import find_family
from codeprior.layers import build
from codeprior.recipes.gpen import ablate
from codeprior.recipes.gpen import settings as numbers
from codeprior.recipes.gpen import train as command
from codeprior.recipes.gpen.finetuning_stage import FineTuningStage
from codeprior.recipes.gpen.model import GPEN, begin, generator, gpen
from codeprior.recipes.gpen.prior_stage import PriorStage
from codeprior.restorers import Restorer, load_restorer
from codeprior.restorers.tasks import draw, inpaint
from codeprior.stages import loss_weights
from codeprior.training import TorchEngine, train
from tests.recipes.coarse import coarse_faces
from tests.recipes.steps import RUN, assert_a_resumed_run_is_the_same
from tests.torture.stages import digest, stream
from tests.training.ranks import on_ranks

TINY = replace(numbers.small_network(), size=16, dim=8, layers=2, narrow=1 / 128)
SMALL = {"network": TINY, "degradation_size": 32, "batch": 4, "steps": 40, "r1_every": 2}


def _prior(seed: int = 0, *, engine: TorchEngine | None = None, **changes) -> PriorStage:
    torch.manual_seed(seed)
    return PriorStage(replace(numbers.prior_small(), **(SMALL | {"path_every": 3} | changes)), engine=engine)


def _finetuning(seed: int = 0, preset=lambda recipe: recipe, noise=None, engine=None, **changes) -> FineTuningStage:
    recipe = preset(replace(numbers.finetuning_small(), **(SMALL | changes)))
    torch.manual_seed(1)
    begun = generator(replace(recipe.network, noise=noise or recipe.network.noise))
    torch.manual_seed(seed)
    return FineTuningStage(recipe, prior=begun if recipe.begins == "prior" else None, engine=engine)


def _code(seed: int = 0, *, engine: TorchEngine | None = None) -> FineTuningStage:
    return _finetuning(
        seed, engine=engine, begins="fresh", content="smooth_l1", grey=0.5, path_every=2,
        weights=loss_weights(adversarial=1.0, content=1.0),
    )  # fmt: skip


@pytest.mark.parametrize("build_stage", [_prior, _finetuning, _code])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(build_stage, tmp_path: Path):
    assert_a_resumed_run_is_the_same(build_stage, tmp_path)


def _ends(build_stage, folder: Path):
    made = build_stage()
    train(made, stream(folder / "faces"), folder=folder / "run", steps=5, **RUN)
    return digest(made, local=False), float(made.path.mean)


@pytest.mark.parametrize("build_stage", [_prior, _code])
def test_ranks_end_alike_with_every_penalty(build_stage, tmp_path: Path):
    stream(tmp_path / "faces")
    # R1, and the path length whose running mean is kept, are both counted within five steps
    (one, mean), (other, same) = on_ranks(2, _ends, build_stage, tmp_path)
    assert one == other and mean == same > 0


@pytest.mark.parametrize("build_stage", [_prior, pytest.param(_code, marks=pytest.mark.slow)])
def test_compiled_networks_have_their_penalties_too(build_stage, tmp_path: Path, monkeypatch):
    data = stream(tmp_path / "faces")
    # the graphs as torch.compile makes them, without the minutes of its C++ compiler
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found = []
    for compiled in (False, True):
        stage = build_stage(engine=TorchEngine(compiled=compiled))
        found.append({name: float(value) for name, value in stage.update(data.at(0), 0).items()})
    plain, compiled = found
    assert {"r1", "path"} <= set(plain)
    assert compiled == pytest.approx(plain, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("preset", "still"),
    [(lambda recipe: recipe, set()), (numbers.without_finetuning, {"generator"}), (numbers.noise_added, set())],
)
def test_each_variant_trains_its_own_part(preset, still, tmp_path: Path):
    stage, data = _finetuning(preset=preset), stream(tmp_path / "faces")
    before = {name: value.clone() for name, value in stage.model.named_parameters()}
    for step in range(3):
        stage.update(data.at(step), step)
    kept = {name for name, value in stage.model.named_parameters() if torch.equal(value, before[name])}
    parts = {name.split(".")[0] for name in before}
    assert parts == {"encoder", "generator"}
    assert kept == {name for name in before if name.split(".")[0] in still}


def test_the_content_falls_when_one_batch_is_learned_by_heart(tmp_path: Path):
    stage, data = _finetuning(learning_rate=5e-3), stream(tmp_path / "faces")
    batch = data.at(0)
    found = [float(stage.update(batch, step)["content"]) for step in range(25)]
    assert found[-1] < 0.7 * found[0]


def test_without_noise_only_the_latent_reaches_the_decoder_and_with_it_the_features_do():
    torch.manual_seed(0)
    image = torch.randn(1, 3, 16, 16)
    for noise, reaches in (("concatenated", True), ("added", True), ("none", False)):
        model = gpen(replace(TINY, noise=noise))
        for name, value in model.named_parameters():
            if name.endswith("noise_weight"):
                torch.nn.init.constant_(value, 0.5)
        encoded = model.encoder(image)
        styles = model.generator.styles(encoded.latent)
        maps = model.noise_of(encoded)
        given = {} if noise == "none" else {"noise": maps}
        torch.testing.assert_close(model(image).image, model.synthesis(styles, **given))
        changed = [value + 1 for value in maps]
        if reaches:
            assert not torch.allclose(model.synthesis(styles, noise=changed), model(image).image)
        else:
            with pytest.raises(ValueError, match="noise='none'"):
                model.synthesis(styles, noise=changed)


def test_super_resolution_gives_larger_faces_and_its_noise_is_the_seeds():
    torch.manual_seed(0)
    model = gpen(replace(TINY, input_size=8))
    assert (model.size, model.scale) == (8, 2)
    torch.nn.init.constant_(model.synthesis.convs[-1].noise_weight, 0.5)
    face = torch.rand(2, 3, 8, 8)
    restorer = Restorer(model)
    first, again, other = (restorer(face, always=True, options={"seed": seed}) for seed in (0, 0, 1))
    assert first.shape == (2, 3, 16, 16)
    assert torch.equal(first, again) and not torch.equal(first, other)
    # a face is restored alike whatever stands beside it
    torch.testing.assert_close(restorer(face[1:], always=True, options={"seed": 0}), first[1:], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="GPEN: 12 px go in and 16 px come out; the output is a multiple of the input"):
        gpen(replace(TINY, input_size=12))
    with pytest.raises(ValueError, match=r"GPEN: expected 8×8 images, got 16×8; resize them"):
        model(torch.zeros(1, 3, 8, 16))


def test_super_resolution_trains(tmp_path: Path):
    network = replace(TINY, input_size=8)
    stage, data = _finetuning(network=network), stream(tmp_path / "faces")
    assert float(stage.update(data.at(0), 0)["skipped"]) == 0
    shown = stage.preview(data.at(0))
    assert {tuple(image.shape[-2:]) for image in shown.values()} == {(16, 16)}


def test_segmentation_works_on_unit_pixels():
    torch.manual_seed(0)
    model = GPEN(16, dim=8, layers=2, narrow=1 / 128, task="segmentation")
    signed = torch.rand(1, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(model.restore(signed), 2 * model((signed + 1) / 2).image - 1)
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    mask = np.zeros((16, 16), dtype=bool)
    mask[:4] = True
    part = draw(model, pixels, mask)
    assert np.array_equal(part[~mask], pixels[~mask])
    assert np.array_equal(part[mask], draw(model, pixels)[mask])
    asked = []
    model.restore = lambda signed, **options: asked.append(options) or signed
    draw(model, pixels, options={"seed": 3})
    assert asked == [{"seed": 3}]
    with pytest.raises(ValueError, match="inpaint: the weights are for segmentation; give it weights for inpainting"):
        inpaint(model, pixels, mask)
    with pytest.raises(ValueError, match="task is 'restoration', 'colourisation', 'inpainting' or 'segmentation'"):
        GPEN(16, task="sculpture")


def test_a_model_is_saved_found_by_its_family_and_restores(tmp_path: Path):
    torch.manual_seed(0)
    model = gpen(TINY).eval()
    save(tmp_path / "gpen.safetensors", model)
    restorer = load_restorer(tmp_path / "gpen.safetensors")
    face = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(restorer(face, always=True), Restorer(model)(face, always=True))
    assert isinstance(build(model.config), GPEN)
    family = find_family("gpen")
    assert [family.stage(name) for name in family.stages] == [PriorStage, FineTuningStage]


def test_priors_of_another_kind_are_refused_and_one_with_added_noise_serves_none():
    torch.manual_seed(0)
    added, bare = generator(replace(TINY, noise="added")), gpen(replace(TINY, noise="none"))
    begin(bare, added)
    assert torch.equal(bare.synthesis.convs[1].conv.weight, added.synthesis.convs[1].conv.weight)
    with pytest.raises(ValueError, match="the prior's noise is added, the model's is concatenated; train a prior with"):
        begin(gpen(TINY), added)
    with pytest.raises(ValueError, match="the prior has other sizes than the model; build both from one Network"):
        begin(gpen(TINY), generator(replace(TINY, dim=4)))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="accumulate is 2, but this discriminator compares the samples of a batch"):
        _prior(accumulate=2)
    with pytest.raises(ValueError, match="the prior learns clean faces, but degradation is 'daefr'"):
        _prior(degradation="daefr")
    with pytest.raises(ValueError, match="the settings begin from a prior; pass prior="):
        FineTuningStage(replace(numbers.finetuning_small(), **SMALL))
    with pytest.raises(ValueError, match="the settings weigh identity and there is no network for it; pass identity="):
        _finetuning(weights=loss_weights(identity=1.0))
    with pytest.raises(ValueError, match="no term is named style; there are adversarial, content, features and"):
        _finetuning(weights=loss_weights(style=1.0))
    with pytest.raises(ValueError, match="the prior stays as it is, so that its path lengths cannot change"):
        _finetuning(preset=numbers.without_finetuning, path_every=4)
    with pytest.raises(ValueError, match="without-finetuning: the first stage trains the prior"):
        numbers.without_finetuning(numbers.prior_small())


def test_the_published_numbers_stand_in_the_settings():
    paper, code = numbers.finetuning(), numbers.finetuning_code()
    rates = (
        paper.learning_rate * paper.encoder_rate,
        paper.learning_rate,
        paper.learning_rate * paper.discriminator_rate,
    )
    assert rates == pytest.approx((2e-3, 2e-4, 2e-5))
    assert dict(paper.weights) == {"adversarial": 1.0, "content": 1.0, "features": 0.02} and paper.content == "l1"
    # gan_family.md 1.6
    assert code.learning_rate == pytest.approx(1.6e-3) and code.betas[1] == pytest.approx(0.99199, abs=5e-6)
    assert code.learning_rate * code.discriminator_rate == pytest.approx(1.88235e-3, rel=1e-5)
    assert code.discriminator_betas[1] == pytest.approx(0.990585, abs=5e-7)
    assert code.average == pytest.approx(0.9977844, abs=1e-7)
    assert (code.r1_weight, code.r1_every, code.path_weight, code.path_every) == (10, 16, 2, 4)
    with torch.device("meta"):
        model = gpen(numbers.Network())
    assert sum(value.numel() for value in model.parameters()) == 71_005_223
    assert sum(value.numel() for value in model.generator.parameters()) == 55_821_735


def test_grey_pairs_are_grey_on_both_sides(tmp_path: Path):
    stage, data = _finetuning(grey=1.0), stream(tmp_path / "faces")
    for image in stage.pair(data.at(0), torch.Generator().manual_seed(0)):
        torch.testing.assert_close(image[:, :1].expand_as(image), image)


def test_the_command_trains_both_stages_and_the_variants(tmp_path: Path, monkeypatch, capsys):
    stream(tmp_path / "faces")
    for name in ("prior_small", "finetuning_small"):
        recipe = replace(getattr(numbers, name)(), network=TINY, degradation_size=32, batch=4, steps=2)
        monkeypatch.setattr(command, "SETTINGS", dict(command.SETTINGS) | {name: lambda recipe=recipe: recipe})
    shared = ["--faces", str(tmp_path / "faces"), "--device", "cpu", "--preview-every", "0"]
    out = tmp_path / "runs"
    assert command.main(["finetuning_small", *shared, "--out", str(out / "finetuning_small")]) == 2
    assert "prior_small/generator.safetensors is missing; run the stage before this one" in capsys.readouterr().err
    assert command.main(["small", *shared, "--out", str(out)]) == 0
    variant = ["--out", str(out / "fixed"), "--preset", "without-finetuning"]
    assert command.main(["finetuning_small", *shared, *variant]) == 0
    assert isinstance(load_restorer(out / "fixed" / "restorer.safetensors").model, GPEN)
    begun, kept = (load_restorer(out / name / "restorer.safetensors").model for name in ("finetuning_small", "fixed"))
    assert not torch.equal(begun.synthesis.constant, kept.synthesis.constant)
    variant = ["--out", str(out / "added"), "--preset", "noise-added"]
    assert command.main(["finetuning_small", *shared, *variant]) == 2
    assert "the prior's noise is concatenated, the model's is added" in capsys.readouterr().err


def test_the_ablation_measures_every_seed_on_the_same_faces(tmp_path: Path, monkeypatch, capsys):
    coarse_faces(tmp_path / "test", "abc", cells=4, side=32)
    recipe = replace(numbers.finetuning_small(), network=TINY, degradation_size=32)
    monkeypatch.setattr(ablate, "finetuning_small", lambda: recipe)
    for seed in range(2):
        torch.manual_seed(seed)
        (tmp_path / f"run{seed}").mkdir()
        save(tmp_path / f"run{seed}" / "restorer.safetensors", gpen(TINY))
    runs = [f"--model=GPEN={tmp_path / f'run{seed}'}" for seed in range(2)]
    clean, degraded = ablate.test_faces(recipe, [tmp_path / "test"], limit=2)
    assert clean.shape == degraded.shape == (2, 3, 16, 16) and not torch.equal(clean, degraded)
    assert torch.equal(degraded, ablate.test_faces(recipe, [tmp_path / "test"], limit=2)[1])
    monkeypatch.setattr(ablate, "COLUMNS", ("psnr",))
    monkeypatch.setattr(ablate.measured, "__kwdefaults__", {"columns": ("psnr",)})
    call = ["--faces", str(tmp_path / "test"), "--out", str(tmp_path / "out"), "--limit", "2"]
    assert ablate.main([*call, *runs]) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    each = [-10 * ((degraded - clean) ** 2).mean((1, 2, 3)).log10()]
    shown = float(next(line for line in table.splitlines() if line.startswith("| degraded")).split("|")[3])
    # the measure rounds both to 8 bits first
    assert shown == pytest.approx(each[0].mean().item(), abs=0.1)
    assert "| GPEN | 2 |" in table and "±" in table and (tmp_path / "out" / "faces.png").stat().st_size
    assert ablate.main([*call, "--model=GPEN"]) == 2
    assert "ablate: expected NAME=FOLDER, got 'GPEN'" in capsys.readouterr().err
    assert ablate.main([*call[:-1], "0", *runs]) == 2
    assert "ablate: --limit: expected 1 face or more, got 0." in capsys.readouterr().err
    capsys.readouterr()
    assert ablate.main([*call, f"{runs[0]}/restorer.safetensors"]) == 0  # the file in place of its folder
    assert "| GPEN | 1 |" in capsys.readouterr().out


def test_a_table_has_means_and_deviations_over_seeds():
    table = ablate.as_table({"a": [{"psnr": 1.0}, {"psnr": 3.0}], "b": [{"psnr": 2.0}]})
    assert table.splitlines()[2:] == ["| a | 2 | 2.000 ± 1.414 |", "| b | 1 | 2.000 |"]
