"""Official checkpoints of CodeFormer, VQFR and RestoreFormer become our modules, every tensor accounted for."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from codeprior import load, save
from codeprior.__main__ import main
from codeprior.checkpoints import read_checkpoint
from codeprior.families import installed_families
from codeprior.weights import convert_state
from tests import small_families as small

_KEYS = Path(__file__).parents[1] / "parity" / "fixtures" / "codebook_family"
_OFFICIAL = {
    "codeformer": ("codeformer", {}, "restoration", "CodeFormer", 0),
    "codeformer_inpainting": ("codeformer", {}, "inpainting", "CodeFormer", 0),
    "codeformer_colorization": ("codeformer", {}, "colourisation", "CodeFormer", 0),
    "codeformer_vqgan": ("codeformer", {}, "prior", "VQGAN", 0),
    "restoreformer": ("restoreformer", {}, "restorer", "RestoreFormer", 6),
    "restoreformer_hq_dictionary": ("restoreformer", {"variant": "dictionary"}, "dictionary", "VQGAN", 14),
    "restoreformerpp": ("restoreformer", {}, "restorer (++)", "RestoreFormer", 6),
    "vqfr_v1": ("vqfr", {}, "v1", "VQFRv1", 0),
    "vqfr_v1_vqgan": ("vqfr", {}, "v1, prior", "VQGAN", 0),
    "vqfr_v2": ("vqfr", {}, "v2, predicted codes", "VQFRv2", 0),
    "vqfr_v2_nearest": ("vqfr", {}, "v2, nearest codes", "VQFRv2", 0),
    "vqfr_v2_vqgan": ("vqfr", {}, "v2, prior", "VQGAN", 0),
}
_SMALL = {
    "codeformer": (small.codeformer, {}),
    "restoreformer": (small.restoreformer, {}),
    "restoreformer plus": (lambda: small.restoreformer(plus=True), {}),
    "dictionary": (small.dictionary, {"variant": "dictionary"}),
    "vqfr v1": (small.vqfr1, {}),
    "vqfr v2": (small.vqfr2, {}),
    "vqfr v2 nearest": (lambda: small.vqfr2(predicted=False), {}),
}


def _converter(family: str) -> Any:
    return import_module(f"codeprior.recipes.{family}.convert").convert


@pytest.mark.parametrize("name", list(_OFFICIAL))
def test_every_official_tensor_has_a_place_or_a_reason(name: str):
    family, choices, stage, kind, dropped = _OFFICIAL[name]
    keys = json.loads((_KEYS / f"keys_{name}.json").read_text())
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape, _ in keys}
        found = _converter(family)(state, **choices)
    (module,) = found.modules.values()
    assert (found.stage, type(module).__name__) == (stage, kind)
    assert len(module.state_dict()) + len(found.dropped) == len(keys)
    assert len(found.dropped) == dropped and all("never used" in reason for reason in found.dropped.values())
    # the family is known by the keys alone
    knowing = [one.name for one in installed_families() for layout in one.layouts if layout.detect(state)]
    assert knowing == [family]


@pytest.mark.parametrize("name", list(_SMALL))
def test_a_small_model_survives_its_official_names(name: str):
    build, choices = _SMALL[name]
    model = build()
    found = _converter(name.split()[0].replace("dictionary", "restoreformer"))(small.official(model), **choices)
    (module,) = found.modules.values()
    ours, theirs = model.state_dict(), module.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)
    image = torch.rand(1, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        first, second = (one.eval()(image) for one in (model, module))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if isinstance(a, torch.Tensor))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"params_ema": state, "params": {key: 0 * value for key, value in state.items()}},
        lambda state: {"params": state, "iteration": 5},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
        lambda state: {"params_ema": {f"module._orig_mod.{key}": value for key, value in state.items()}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
    ],
    ids=["ema first", "params", "parallel", "compiled parallel", "parallel compiled", "bare"],
)
def test_containers_and_wrappers_are_taken_off(wrap, tmp_path: Path):
    model = small.vqfr2(predicted=False)
    torch.save(wrap(small.official(model)), tmp_path / "some.pth")
    family, found = convert_state(read_checkpoint(tmp_path / "some.pth").tensors)
    assert (family.name, found.stage) == ("vqfr", "v2, nearest codes")
    (module,) = found.modules.values()
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in model.state_dict().items())


def test_lightning_files_lose_their_prefix_and_their_losses():
    model = small.restoreformer()
    state = {f"vqvae.{key}": value for key, value in small.official(model).items()}
    state["loss.discriminator.main.0.weight"] = torch.zeros(3)
    # the stages of DAEFR that were trained in the same way have the same names, so the family must be named
    _, found = convert_state(state, family="restoreformer")
    assert found.dropped["loss.discriminator.main.0.weight"] == "of the losses and discriminators of training"
    assert all(
        torch.equal(value, found.modules["restorer"].state_dict()[key]) for key, value in model.state_dict().items()
    )


@pytest.mark.parametrize(
    ("build", "lost", "text"),
    [
        (small.codeformer, "generator.blocks.", "of layout|names of|holds nothing|nobody"),
        (small.codeformer, "encoder.blocks.6.", "holds nothing under encoder.blocks.6"),
        (small.codeformer, "feat_emb.", "lacks feat_emb.weight"),
        (small.vqfr2, "quantizer.", "vqfr: expected a quantizer"),
        (
            small.vqfr1,
            "main_decoder.align_func_dict.Level_2.dcn.",
            "lacks main_decoder.align_func_dict.Level_2.dcn.weight",
        ),
        (small.restoreformer, "encoder.norm_out.", "holds nothing under encoder.norm_out"),
    ],
)
def test_a_stump_names_what_is_missing(build, lost: str, text: str):
    model = build()
    family = type(model).__module__.split(".")[-2]
    state = {key: value for key, value in small.official(model).items() if not key.startswith(lost)}
    if lost == "generator.blocks.":
        assert convert_state(state) is None  # nobody's: the half that is left could be anything
        return
    with pytest.raises(ValueError, match=text):
        convert_state(state, family=family)


def test_a_tensor_that_no_such_model_has_is_refused():
    state = small.official(small.codeformer()) | {"surprise.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"no such model has the tensor surprise\.weight"):
        convert_state(state)


def test_what_shapes_cannot_tell_is_asked_and_kept_in_the_file(tmp_path: Path):
    convert = _converter("codeformer")
    model = convert(small.official(small.codeformer()), variant="inpainting").modules["restorer"]
    save(tmp_path / "one.safetensors", model)
    assert load(tmp_path / "one.safetensors").task == "inpainting"
    vqgan = _converter("restoreformer")(small.official(small.restoreformer()), variant="dictionary").modules["vqgan"]
    assert vqgan.decoder.guided == []


def test_the_command_asks_what_shapes_cannot_tell_and_names_what_it_found(tmp_path: Path, capsys):
    torch.save({"params_ema": small.official(small.codeformer())}, tmp_path / "one.pth")
    call = ["convert", str(tmp_path / "one.pth"), str(tmp_path / "one.safetensors")]
    assert main([*call, "--variant", "dictionary"]) == 2
    assert "codeformer has restoration, inpainting, colourisation, not 'dictionary'" in capsys.readouterr().err
    assert main([*call, "--variant", "inpainting"]) == 0
    assert "(params_ema): codeformer, stage inpainting" in capsys.readouterr().out
    found = load(tmp_path / "one.safetensors")
    assert found.task == "inpainting" and found.restore(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_every_family_loads_what_it_saved(tmp_path: Path):
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    for number, build in enumerate((small.codeformer, small.restoreformer, small.vqfr1, small.vqfr2)):
        model, path = build(), tmp_path / f"{number}.safetensors"
        save(path, model)
        assert torch.equal(load(path).restore(image), model.restore(image))
