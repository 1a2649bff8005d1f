"""The embedded weights are made by a command: what it writes, and what it refuses."""

import json

import torch

from codeprior import weights
from codeprior.recipes.daefr import load, settings
from codeprior.recipes.daefr.model import fidelity_taps, restorer, vqgan
from codeprior.recipes.daefr.ship import main
from codeprior.training.watch import Log


def _runs(folder):
    torch.manual_seed(0)
    recipe = settings.restoration_small()
    teacher = vqgan(recipe.network)
    model = restorer(recipe, teacher.prior())
    for stage, part, module in (
        ("hq_codebook_small", "vqgan", teacher),
        ("decoder_small", "restorer", model.with_taps(fidelity_taps(recipe.network))),
    ):
        (folder / stage).mkdir(parents=True)
        weights.save(folder / stage / f"{part}.safetensors", module)
        Log(folder / stage / "log.jsonl").write(25, total=1.23456789, elapsed=9.0, event="validation")
    return folder


def test_shipped_weights_are_half_as_large_load_and_say_their_licence(tmp_path, capsys):
    runs, out = _runs(tmp_path / "runs"), tmp_path / "weights"
    assert main([str(runs), "--out", str(out)]) == 0
    assert "daefr_small.safetensors: " in capsys.readouterr().out
    files = sorted(path.name for path in out.iterdir())
    assert files == ["curves.json", "daefr_small.safetensors", "hq_vqgan_small.safetensors"]
    # what the card promises of the small network, whatever its weights
    assert sum(path.stat().st_size for path in out.glob("*.safetensors")) < 20e6
    header = weights.read_metadata(out / "daefr_small.safetensors")
    assert header["licence"].startswith("CC-BY-4.0") and header["recipe"].endswith("fidelity_small, decoder_small")
    restored = load(out / "daefr_small.safetensors")(torch.rand(1, 3, 128, 128))
    assert restored.shape == (1, 3, 128, 128) and restored.isfinite().all()
    assert json.loads((out / "curves.json").read_text()) == {
        stage: {"total": {"step": [25], "value": [1.2346]}} for stage in ("decoder_small", "hq_codebook_small")
    }


def test_a_run_that_lacks_a_stage_is_refused(tmp_path, capsys):
    runs = _runs(tmp_path / "runs")
    (runs / "decoder_small" / "restorer.safetensors").unlink()
    assert main([str(runs), "--out", str(tmp_path / "weights")]) == 2
    assert "restorer.safetensors" in capsys.readouterr().err
