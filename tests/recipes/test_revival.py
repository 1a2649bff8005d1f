"""A recipe that asks for it revives codes that a gradient moves: alike on all ranks, and to the bit on resume."""

from dataclasses import replace

import pytest
import torch

from codeprior.training import Saving, TorchEngine, train
from tests.torture import stages
from tests.training.ranks import on_ranks

GRADIENT = {"network": replace(stages.TINY, codebook="gradient"), "crop": None, "codes_from": 0.0, "average": None}
REVIVING = GRADIENT | {"revive_below": 0.05, "revive_every": 4}
RUN = {"saving": Saving(every=3), "log_every": 1, "preview_every": 0, "progress": False}


def _half_dead(**options):
    made = stages.stage("hq", engine=TorchEngine(), **options)
    with torch.no_grad():
        made.model.codebook.weight[4:] += 100
    return made


@pytest.mark.parametrize("reviving", [False, True])
def test_a_table_that_is_half_dead_lives_again(tmp_path, reviving):
    made, data = _half_dead(**(REVIVING if reviving else GRADIENT)), stages.stream(tmp_path / "faces")
    revived = sum(float(made.update(data.at(step), step).get("codes_revived", 0)) for step in range(8))
    far = int((made.model.codebook.weight.abs().amax(1) > 50).sum())
    assert (far, revived >= 4) == ((0, True) if reviving else (4, False))


def _ends(folder, faces):
    made = _half_dead(**REVIVING)
    train(made, stages.stream(faces), folder=folder, steps=8, **RUN)
    return stages.digest(made, local=False), made.model.codebook.weight.detach().numpy()


def test_ranks_revive_the_same_codes(tmp_path):
    stages.stream(tmp_path / "faces")
    (one, table), (other, _) = on_ranks(2, _ends, tmp_path / "run", tmp_path / "faces")
    assert one == other and abs(table).max() < 50


def test_a_resumed_run_revives_as_one_that_never_stopped(tmp_path):
    data = stages.stream(tmp_path / "faces")
    whole = _half_dead(**REVIVING)
    train(whole, data, folder=tmp_path / "whole", steps=8, **RUN)
    first = _half_dead(**REVIVING)
    train(first, data, folder=tmp_path / "parts", steps=3, **RUN)
    second = stages.stage("hq", seed=9, **REVIVING)
    train(second, data, folder=tmp_path / "parts", steps=8, **RUN)
    assert stages.digest(second) == stages.digest(whole)


def test_codes_that_revive_themselves_are_not_asked_twice():
    with pytest.raises(ValueError, match="moving averages revive their own; set network.revive_below instead"):
        stages.stage("hq", revive_below=0.05)
