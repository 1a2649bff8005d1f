"""Checkpoints: what goes in comes out to the bit; damage is seen; the newest sound one is found."""

import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from codeprior.training import Checkpoints, DamagedCheckpoint, Saving, train
from codeprior.training.checkpoint import verify
from tests.training.toy import Toy, digest, stream, write_faces


def trained(steps=3):
    stage = Toy()
    for _ in range(steps):
        stage.net(torch.randn(2, 3, 8, 8)).square().mean().backward()
        stage.optimizer.step()
    return stage


def test_modules_and_optimisers_come_back_to_the_bit(tmp_path):
    stage, other = trained(), Toy(seed=5)
    Checkpoints(tmp_path).save(3, stage.saved, notes={"loss": 0.1})
    found = Checkpoints(tmp_path).resume(other.saved)
    assert (found.step, found.notes, found.passed, found.bitwise) == (3, {"loss": 0.1}, [], True)
    assert digest(other.net) == digest(stage.net)
    mine, theirs = stage.optimizer.state_dict(), other.optimizer.state_dict()
    assert mine["param_groups"] == theirs["param_groups"]
    for key, state in mine["state"].items():
        assert all(torch.equal(value, theirs["state"][key][name]) for name, value in state.items())


def test_channels_last_comes_back(tmp_path):
    module, other = (nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2))
    optimizers = [torch.optim.Adam(m.parameters()) for m in (module, other)]
    module(torch.randn(1, 3, 8, 8)).sum().backward()
    optimizers[0].step()
    Checkpoints(tmp_path).save(1, {"m": module, "o": optimizers[0]})
    Checkpoints(tmp_path).resume({"m": other, "o": optimizers[1]})
    moment = optimizers[1].state_dict()["state"][0]["exp_avg"]
    assert moment.stride() == optimizers[0].state_dict()["state"][0]["exp_avg"].stride() != (27, 9, 3, 1)
    assert torch.equal(moment, optimizers[0].state_dict()["state"][0]["exp_avg"])


def test_generators_go_on_where_they_were(tmp_path):
    random.gauss(0, 1), np.random.standard_normal()  # leaves half a pair waiting in both
    Checkpoints(tmp_path).save(0, {})
    first = (torch.rand(3).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1), random.random())
    Checkpoints(tmp_path).resume({})
    assert first == (torch.rand(3).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1), random.random())


def test_the_newest_sound_ones_stay(tmp_path):
    stage, checkpoints = trained(1), Checkpoints(tmp_path, keep=2, keep_every=100)
    for step in (100, 110, 120, 130):
        checkpoints.save(step, stage.saved)
    assert checkpoints.steps() == [100, 120, 130]
    (tmp_path / "step-00000130" / "net.safetensors").write_bytes(b"")
    Checkpoints(tmp_path, keep=2).save(140, stage.saved)
    # the damaged one does not count, so the sound one behind it stays
    assert checkpoints.steps() == [120, 130, 140]


def test_damage_is_passed_over_and_said(tmp_path):
    stage, other = trained(), Toy(seed=5)
    for step in (1, 2):
        Checkpoints(tmp_path).save(step, stage.saved)
    path = tmp_path / "step-00000002" / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=r"optimizer.safetensors: the sha256 is not the one of the manifest"):
        verify(path.parent)
    found = Checkpoints(tmp_path).resume(other.saved)
    assert found.step == 1
    assert "optimizer.safetensors" in found.passed[0]
    Checkpoints(tmp_path).save(2, stage.saved)
    verify(path.parent)


def test_a_manifest_that_was_touched_is_damage(tmp_path):
    place = Checkpoints(tmp_path).save(1, trained(1).saved)
    text = (place / "manifest.json").read_text()
    (place / "manifest.json").write_text(text.replace('"step": 1', '"step": 2'))
    with pytest.raises(DamagedCheckpoint, match="the manifest is not the one that was written"):
        verify(place)


def test_other_parts_are_refused_by_name(tmp_path):
    stage = trained(1)
    Checkpoints(tmp_path).save(1, stage.saved)
    with pytest.raises(ValueError, match="expected the parts net, it holds net, optimizer"):
        Checkpoints(tmp_path).resume({"net": stage.net})
    with pytest.raises(ValueError, match="its part 'net' does not fit the stage"):
        Checkpoints(tmp_path).resume({"net": nn.Linear(2, 2), "optimizer": stage.optimizer})


def test_nothing_but_safetensors_and_json_is_written(tmp_path):
    place = Checkpoints(tmp_path).save(1, trained(1).saved)
    assert sorted(p.name for p in place.iterdir()) == [
        "manifest.json", "net.safetensors", "optimizer.safetensors", "random-0.safetensors"
    ]  # fmt: skip
    json.loads((place / "manifest.json").read_text().splitlines()[1])


def test_saving_says_when_a_checkpoint_is_due():
    assert [step for step in range(13) if Saving(every=4).due(step)] == [0, 4, 8, 12]
    assert not any(Saving(every=0).due(step) for step in range(13))
    assert [Saving(minutes=0.5).overdue(seconds) for seconds in (29.9, 30.0)] == [False, True]
    assert not Saving().overdue(1e9)


def test_former_names_of_saving_work_and_say_how_it_is_now(tmp_path):
    data, run = stream(write_faces(tmp_path / "faces")), {"steps": 4, "preview_every": 0, "progress": False}
    with pytest.warns(DeprecationWarning, match=r"save_every, keep is now saving=Saving\(every=1, keep=2\)"):
        train(Toy(), data, folder=tmp_path / "run", save_every=1, keep=2, **run)
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [3, 4]
    with pytest.raises(TypeError, match="expected saving=, or its former names keep; got both"):
        train(Toy(), data, folder=tmp_path / "other", saving=Saving(), keep=2, **run)
    with pytest.raises(TypeError, match="unexpected keyword argument 'saves'"):
        train(Toy(), data, folder=tmp_path / "other", saves=2, **run)
