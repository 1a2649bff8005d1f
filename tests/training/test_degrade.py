"""Faces damaged on loader workers are those damaged on the device, to the bit; so is the run, and its resume."""

import json

import pytest
import torch

from codeprior import weights
from codeprior.recipes.daefr.model import vqgan
from codeprior.recipes.daefr.settings import small_network
from codeprior.recipes.daefr.train import main
from codeprior.stages import Faces
from codeprior.training import Batch, train
from tests.torture import stages
from tests.torture.kills import RUN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("degrade") / "faces"
    stages.stream(folder)
    return folder


@pytest.mark.parametrize("preset", ["daefr", "daefr-association"])
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_give_the_devices_images_to_the_bit(folder, preset, workers):
    faces = Faces(size=16, degradation=preset, degradation_size=32)
    plain, ahead = stages.stream(folder), stages.stream(folder, workers=workers)
    ahead.prepare = faces.on_workers
    # more than an epoch, so that the same face comes with two damages
    for mine, theirs in zip(plain.between(0, 4), ahead.between(0, 4), strict=True):
        assert mine.degraded is None and theirs.degraded is not None
        for one, other in zip(faces(mine), faces(theirs), strict=True):
            assert torch.equal(one, other)


def test_the_damage_that_was_made_is_the_damage_that_is_used(folder):
    faces = Faces(size=16, degradation="daefr", degradation_size=32)
    batch = faces.on_workers(stages.stream(folder).at(0))
    assert batch.degraded is not None
    marked = batch._replace(degraded=batch.degraded + 1)
    assert torch.equal(faces(marked).degraded, batch.degraded + 1)
    # and it stays with its sample
    parts = marked.parts(2)
    assert torch.equal(torch.cat([faces(part).degraded for part in parts]), batch.degraded + 1)
    assert torch.equal(faces(marked.first(3)).degraded, batch.degraded[:3] + 1)


def test_clean_faces_are_not_sent_twice(folder):
    batch = stages.stream(folder).at(0)
    assert isinstance(batch, Batch)
    assert Faces(size=16, degradation=None, degradation_size=32).on_workers(batch) is batch


def test_a_run_damaged_on_workers_ends_and_resumes_with_the_bits_of_the_other(folder, tmp_path):
    def run(name, steps, *, seed, ahead):
        made = stages.stage("restoration", seed=seed)
        data = stages.stream(folder, workers=2 * ahead)
        data.prepare = made.faces.on_workers if ahead else None
        train(made, data, folder=tmp_path / name, **RUN | {"steps": steps})
        return stages.digest(made)

    whole = run("whole", 12, seed=0, ahead=False)
    assert run("ahead", 7, seed=0, ahead=True) != whole
    assert run("ahead", 12, seed=1, ahead=True) == whole
    # a run may also change its mind on the way
    assert run("mixed", 7, seed=0, ahead=True) != whole
    assert run("mixed", 12, seed=1, ahead=False) == whole


def test_the_command_damages_where_it_is_told(folder, tmp_path):
    ends = []
    (tmp_path / "hq_codebook_small").mkdir()
    weights.save(tmp_path / "hq_codebook_small" / "vqgan.safetensors", vqgan(small_network()))
    for where in ("device", "workers"):
        words = [
            "lq_codebook_small", "--faces", str(folder), "--out", str(tmp_path / where), "--steps", "2", "--batch", "2",
            "--threads", "1", "--perceptual-weights", "random", "--device", "cpu", "--log-every", "1", "--workers", "1",
            "--degrade", where, "--accumulate", "2",
        ]  # fmt: skip
        assert main(words) == 0
        lines = [json.loads(line) for line in (tmp_path / where / "log.jsonl").read_text().splitlines()]
        ends.append([line["pyramid"] for line in lines if "pyramid" in line])
    assert len(ends[0]) == 2 and ends[0] == ends[1]
