"""Nothing that is saved is superfluous: a resume without any one piece of it ends elsewhere."""

import random

import numpy as np
import pytest
import torch

from codeprior.training import Saving, Stream, checkpoint, train
from codeprior.training import state as states
from tests.torture import stages
from tests.training.toy import Toy, digest, stream, write_faces

STEPS = 9
RUN = {"steps": STEPS, "saving": Saving(every=6), "log_every": 3, "preview_every": 0, "progress": False}


class Drawing(Toy):
    """Draws from all three global generators, as somebody's own stage may."""

    def update(self, batch, step):
        shift = random.random() + np.random.standard_normal() + float(torch.rand(()))
        with torch.no_grad():
            self.net[0].weight += 1e-3 * shift
        return super().update(batch, step)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return stages.stream(tmp_path_factory.mktemp("faces") / "faces")


class Interrupted(Exception):
    pass


def broken_off(made, data, folder):
    """Runs to step 8, two steps after a checkpoint, and ends there."""
    update = made.update

    def breaking(batch, step):
        if step == 8:
            raise Interrupted
        return update(batch, step)

    made.update = breaking
    with pytest.raises(Interrupted):
        train(made, data, folder=folder, **RUN)


def made_hq(seed):
    return stages.stage("hq", seed=seed, adversarial_start=2, codes_from=0.0, discriminator_norm="batch")


@pytest.fixture(scope="module")
def truth(faces, tmp_path_factory):
    made = made_hq(0)
    train(made, faces, folder=tmp_path_factory.mktemp("run"), **RUN)
    return stages.digest(made)


PIECES = {
    "nothing": ("vqgan", ()),
    "encoder and decoder": ("vqgan", ("encoder.", "decoder.")),
    "codes": ("vqgan", ("codebook.weight",)),
    "counts of the moving average": ("vqgan", ("codebook.counts", "codebook.sums")),
    "discriminator": ("discriminator", ("",)),
    "running statistics": ("discriminator", ("running",)),
    "averages of the weights": ("average", ("",)),
    "Adam of the generator": ("vqgan_optimizer", ("",)),
    "Adam of the discriminator": ("discriminator_optimizer", ("",)),
}


@pytest.mark.parametrize("piece", PIECES)
def test_every_part_is_needed(faces, truth, tmp_path, piece):
    broken_off(made_hq(0), faces, tmp_path)
    again = made_hq(77)
    name, prefixes = PIECES[piece]
    _forgetting(again.saved[name], prefixes)
    train(again, faces, folder=tmp_path, **RUN)
    assert (stages.digest(again) == truth) == (piece == "nothing")


def _forgetting(part, prefixes):
    load = part.load_state_dict
    if "" in prefixes:
        part.load_state_dict = lambda state: None
    elif prefixes:
        dropped = [key for key in part.state_dict() if any(prefix in key for prefix in prefixes)]
        assert dropped, sorted(part.state_dict())
        part.load_state_dict = lambda state: load({k: v for k, v in state.items() if k not in dropped}, strict=False)


GENERATORS = ("nothing", "torch", "numpy", "python")


@pytest.mark.parametrize("piece", [*GENERATORS, "step", "order of the data"])
def test_every_generator_and_the_step_are_needed(tmp_path, monkeypatch, piece):
    data = stream(write_faces(tmp_path / "faces"))
    _seed(0)
    whole = Drawing()
    train(whole, data, folder=tmp_path / "whole", **RUN)
    _seed(0)
    broken_off(Drawing(), data, tmp_path / "run")
    _seed(1)
    if piece in GENERATORS[1:]:
        monkeypatch.setattr(checkpoint, "restore_random_state", lambda state: _restored_without(piece, state))
    elif piece == "step":
        monkeypatch.setattr(checkpoint, "Resumed", lambda step, *rest: checkpoint_resumed(step - 1, *rest))
    elif piece == "order of the data":
        between = Stream.between
        monkeypatch.setattr(Stream, "between", lambda self, start, stop: between(self, 0, stop - start))
    checkpoint_resumed = checkpoint.Resumed if piece != "step" else _resumed
    again = Drawing(seed=99)
    train(again, data, folder=tmp_path / "run", **RUN)
    assert (digest(again.net) == digest(whole.net)) == (piece == "nothing")


_resumed = checkpoint.Resumed


def _restored_without(name, state):
    states.restore_random_state(state | {key: value for key, value in _now().items() if key.startswith(name)})


def _now():
    return states.random_state()[0]


def _seed(seed):
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
