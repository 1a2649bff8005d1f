"""`codeprior convert`: published layouts of every stage come out as our modules, with what was dropped said."""

import json
from pathlib import Path

import pytest
import torch

from codeprior.__main__ import main
from codeprior.discriminators import PatchGAN
from codeprior.recipes.daefr.convert import convert as convert_state
from codeprior.recipes.daefr.model import restorer, vqgan
from codeprior.recipes.daefr.settings import Network, RestorationRecipe
from codeprior.weights import load, read_metadata
from tests.parity import fill, names

_NETWORK = Network(size=64, dim=32, codes=64, channels=32, multipliers=(1, 2, 4), width=64, layers=3, hidden=128)


@pytest.fixture
def convert(capsys):
    def run(*words: object) -> tuple[int, str, str]:
        status = main(["convert", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def _released(module: torch.nn.Module, keys: dict[str, str]) -> dict[str, torch.Tensor]:
    """What the reference's file holds for a module of ours: its keys, filled by the parity fixtures' rule."""
    return {keys[name]: fill.tensor_for(keys[name], tuple(v.shape)) for name, v in module.state_dict().items()}


def test_a_final_checkpoint_of_daefr_becomes_a_restorer(tmp_path, convert):
    model = restorer(RestorationRecipe(network=_NETWORK), vqgan(_NETWORK).prior())
    keys = names.restorer_names(model)
    state = _released(model, keys) | {"vqvae.HQ_quantize.embedding.weight": torch.zeros(64, 32)}
    torch.save({"state_dict": state, "epoch": 7, "callbacks": {}, "optimizer_states": [{}]}, tmp_path / "a.ckpt")
    status, out, _ = convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert status == 0
    assert "daefr, stage final" in out
    assert "dropped 1 tensors: no forward of this stage reads it" in out
    found = load(tmp_path / "a.safetensors")
    assert type(found).__name__ == "DAEFR"
    for name, value in found.state_dict().items():
        assert torch.equal(value, state[keys[name]])
    faces = torch.rand(1, 3, 64, 64)
    model.load_state_dict({name: state[key] for name, key in keys.items()})
    assert torch.equal(found(faces).logits, model.eval()(faces).logits)


def test_a_codebook_checkpoint_gives_prior_and_discriminator(tmp_path, convert):
    model = vqgan(_NETWORK)
    state = _released(model, names.stage_names(model, "vqvae"))
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    status, out, _ = convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors", "--half")
    assert status == 0
    assert "stage codebook" in out
    found = load(tmp_path / "a.safetensors", dtype=None)
    assert found.codebook.weight.dtype == torch.float16
    assert torch.equal(found.codebook.weight, state["vqvae.quantize.embedding.weight"].half())


def test_an_association_checkpoint_gives_both_priors_and_both_discriminators(tmp_path, convert):
    sides = {"hq_": vqgan(_NETWORK), "lq_": vqgan(_NETWORK)}
    state = {"logit_scale": torch.tensor(2.6593)}
    for (side, model), prefix in zip(sides.items(), ("vqvae", "vqvae_LQ"), strict=True):
        state |= _released(model, names.stage_names(model, prefix))
        loss = "loss" if side == "hq_" else "loss_LQ"
        judge = PatchGAN(16, 2)
        state |= {f"{loss}.discriminator.{k}": fill.tensor_for(f"{loss}.{k}", tuple(v.shape), v.dtype)
                  for k, v in judge.state_dict().items()}  # fmt: skip
        state[f"{loss}.perceptual_loss.lin0.model.1.weight"] = torch.zeros(1, 64, 1, 1)
        # the reference's blocks store a second normalisation that nothing reads
        state[f"{prefix}.encoder.mid.attn_1.norm2.weight"] = torch.zeros(128)
    torch.save({"state_dict": state, "epoch": 45, "pytorch-lightning_version": "1.0.8"}, tmp_path / "a.ckpt")
    status, out, _ = convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert status == 0
    assert "daefr, stage association" in out
    assert "dropped 1 tensors: the temperature never moved" in out
    assert "dropped 2 tensors: the perceptual network comes from its own file" in out
    assert "dropped 2 tensors: stored by the reference, never used" in out
    parts = ("hq_discriminator", "hq_vqgan", "lq_discriminator", "lq_vqgan")
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [f"a.{part}.safetensors" for part in parts]
    for (side, model), prefix in zip(sides.items(), ("vqvae", "vqvae_LQ"), strict=True):
        keys = names.stage_names(model, prefix)
        for name, value in load(tmp_path / f"a.{side}vqgan.safetensors").state_dict().items():
            assert torch.equal(value, state[keys[name]])
        loss = "loss" if side == "hq_" else "loss_LQ"
        for name, value in load(tmp_path / f"a.{side}discriminator.safetensors").state_dict().items():
            assert torch.equal(value, state[f"{loss}.discriminator.{name}"])


@pytest.mark.parametrize(("stage", "count"), [("hq_codebook", 2), ("association", 4), ("final", 1)])
def test_every_key_of_the_released_files_has_a_place(stage, count):
    """The recorded key lists at full size, without values: strict loading finds each place and each shape."""
    path = Path(__file__).parents[1] / "parity" / "fixtures" / "daefr" / f"keys_{stage}.json"
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape, _ in json.loads(path.read_text())}
        found = convert_state(state)
    assert len(found.modules) == count
    kept = sum(len(module.state_dict()) for module in found.modules.values())
    assert kept + len(found.dropped) == len(state)


def test_unknown_tensors_keep_their_names_and_what_is_dropped_is_named(tmp_path, convert):
    torch.save({"state_dict": {"w": torch.arange(3.0)}, "optimizer": {"m": torch.zeros(2)}}, tmp_path / "a.ckpt")
    status, out, _ = convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert status == 0
    assert "dropped optimizer: 1 tensors" in out
    metadata = read_metadata(tmp_path / "a.safetensors")
    assert metadata["source"] == "a.ckpt"
    assert metadata["source_section"] == "state_dict"
    assert len(metadata["source_sha256"]) == 64
    assert json.loads(json.dumps(metadata)) == metadata


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a.ckpt", "a.bin"], "must end in .safetensors"),
        (["a.ckpt", "there.safetensors"], "exists already and is kept"),
        (["a.ckpt", "b.safetensors", "--sha256", "0" * 64], "expected 0000"),
        (["a.ckpt", "b.safetensors", "--section", "ema"], "no section 'ema'"),
        (
            ["a.ckpt", "b.safetensors", "--recipe", "daefr"],
            "it has not the names of daefr: stage_of: no stage of DAEFR has these keys",
        ),
        (["absent.ckpt", "b.safetensors"], "does not exist"),
        (["text.ckpt", "b.safetensors"], "neither a torch.save archive nor safetensors"),
    ],
)
def test_refusals_end_with_two_and_write_nothing(tmp_path, convert, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.zeros(2)}, "a.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing of the kind")
    (tmp_path / "there.safetensors").write_text("mine")
    status, _, err = convert(*words)
    assert status == 2
    assert reason in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "text.ckpt", "there.safetensors"]
    assert (tmp_path / "there.safetensors").read_text() == "mine"


def test_a_name_in_the_file_does_not_write_to_the_terminal(tmp_path, convert):
    torch.save({"state_dict": {"w": torch.zeros(1)}, "\x1b[31mred\n": {"m": torch.zeros(1)}}, tmp_path / "a.ckpt")
    status, out, _ = convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert status == 0
    assert "\x1b" not in out


def test_a_part_of_a_checkpoint_is_told_all_that_it_lacks(tmp_path, convert):
    model = vqgan(_NETWORK)
    whole = _released(model, names.stage_names(model, "vqvae"))
    two = ("vqvae.encoder.conv_in.weight", "vqvae.quantize.embedding.weight")
    torch.save({"state_dict": {name: whole[name] for name in two}}, tmp_path / "a.ckpt")
    status, _, said = convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert status == 2 and not (tmp_path / "a.safetensors").exists()
    # 6 ends and 2 groups of encoder and decoder, 2 small convolutions of 2 tensors each; one end is there
    assert (
        "a codebook checkpoint has 19 tensors or groups (vqvae.encoder.conv_in.bias, vqvae.encoder.norm_out.weight, "
        "vqvae.encoder.norm_out.bias, vqvae.encoder.conv_out.weight, vqvae.encoder.conv_out.bias, vqvae.encoder.mid.* "
        "and 13 more), which this one lacks; --recipe none keeps what is there under its own names" in said
    )
    assert convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors", "--recipe", "none")[0] == 0


@pytest.mark.parametrize("stage", ["codebook", "final"])
def test_every_tensor_that_is_missing_within_is_counted(stage, tmp_path, convert):
    if stage == "codebook":
        model = vqgan(_NETWORK)
        keys = names.stage_names(model, "vqvae")
    else:
        model = restorer(RestorationRecipe(network=_NETWORK), vqgan(_NETWORK).prior())
        keys = names.restorer_names(model)
    state = _released(model, keys)
    # no size is read from a bias
    gone = [name for name, theirs in keys.items() if ".block" in theirs and name.endswith(".bias")][:9]
    torch.save(
        {"state_dict": {k: v for k, v in state.items() if k not in {keys[name] for name in gone}}}, tmp_path / "a.ckpt"
    )
    status, _, said = convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert status == 2 and "9 tensors or groups (" in said and "and 3 more), which it lacks" in said
    assert all(name in said for name in gone[:6])
