"""The loop: a run that was stopped anywhere ends like one that never was."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from codeprior.training import Checkpoints, Saving, Stopped, train
from codeprior.training.checkpoint import read_manifest
from tests.training.toy import Toy, digest, stream, write_faces

RUN = {"steps": 12, "saving": Saving(every=4), "log_every": 3, "preview_every": 6, "progress": False}


def whole(tmp_path):
    data = stream(write_faces(tmp_path / "faces"))
    stage = Toy()
    assert train(stage, data, folder=tmp_path / "whole", **RUN) == (12, True)
    return data, digest(stage.net)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("at", [2, 4, 5, 9, 11])
def test_a_run_that_breaks_off_ends_with_the_same_bits(tmp_path, at):
    data, end = whole(tmp_path)

    class Breaks(Toy):
        def update(self, batch, step):
            if step == at:
                raise Interrupted
            return super().update(batch, step)

    with pytest.raises(Interrupted):
        train(Breaks(), data, folder=tmp_path / "run", **RUN)
    again = Toy(seed=99)
    assert train(again, data, folder=tmp_path / "run", **RUN) == (12, True)
    assert digest(again.net) == end
    logs = [_metrics(tmp_path / name / "log.jsonl") for name in ("whole", "run")]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == [3, 6, 9, 12]


def test_validation_changes_no_bit_and_its_figure_chooses_the_checkpoints_that_stay(tmp_path):
    data, end = whole(tmp_path)
    figures = iter([{"score": 3.0}, {"score": 1.0}, {"score": 2.0}, {"score": 5.0}])
    called = []

    def validate():
        called.append(float(torch.rand(())))  # what it draws, it does not take from the run
        return next(figures)

    stage, run = Toy(), RUN | {"saving": Saving(every=3, keep=1, best=1, best_by="score")}
    train(
        stage,
        data,
        folder=tmp_path / "run",
        validate=validate,
        validate_every=3,
        **run,
    )
    assert digest(stage.net) == end and len(called) == 4
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["validation_score"] for line in lines if line.get("event") == "validation"] == [3.0, 1.0, 2.0, 5.0]
    # the newest, and the one with the lowest score
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [6, 12]


def test_a_checkpoint_between_two_validations_has_no_score(tmp_path):
    data = stream(write_faces(tmp_path / "faces"))
    run = RUN | {"saving": Saving(every=2, best_by="score", keep=9)}
    train(Toy(), data, folder=tmp_path / "run", validate=lambda: {"score": 0.0}, validate_every=4, **run)
    places = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    scores = {int(place.name[-2:]): read_manifest(place)["score"] for place in places}
    assert scores == {0: None, 2: None, 4: 0.0, 6: None, 8: 0.0, 10: None, 12: 0.0}


def test_a_figure_that_is_not_there_cannot_choose_the_best(tmp_path):
    data = stream(write_faces(tmp_path / "faces"))
    run = RUN | {"saving": Saving(every=6, best=1, best_by="psnr")}
    with pytest.warns(UserWarning, match="best_by is 'psnr', and the figures are score; without it no checkpoint is"):
        train(Toy(), data, folder=tmp_path / "run", validate=lambda: {"score": 0.0}, validate_every=6, **run)
    with pytest.raises(ValueError, match=r"Saving: best=2 needs best_by, .* --best of a command needs --validation"):
        Saving(best=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_between_steps_with_a_checkpoint_and_status_75(tmp_path, number):
    data, end = whole(tmp_path)

    class Signalled(Toy):
        def update(self, batch, step):
            if step == 5:
                os.kill(os.getpid(), number)
            return super().update(batch, step)

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        train(Signalled(), data, folder=tmp_path / "run", **RUN)
    assert stopped.value.code == 75
    assert signal.getsignal(number) == before
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [0, 4, 6]
    again = Toy(seed=99)
    train(again, data, folder=tmp_path / "run", **RUN)
    assert digest(again.net) == end


def test_time_that_is_up_stops_with_a_checkpoint(tmp_path):
    data, end = whole(tmp_path)
    finished = train(Toy(), data, folder=tmp_path / "run", minutes=0, **RUN)
    assert finished == (1, False)
    again = Toy(seed=99)
    assert train(again, data, folder=tmp_path / "run", minutes=10, **RUN).complete
    assert digest(again.net) == end


def test_watching_changes_nothing(tmp_path):
    data, end = whole(tmp_path)
    stage = Toy()
    train(
        stage, data, folder=tmp_path / "run", **RUN | {"log_every": 1, "preview_every": 1, "saving": Saving(every=100)}
    )
    assert digest(stage.net) == end


def test_previews_are_a_column_a_name_and_a_row_a_sample(tmp_path):
    data, _ = whole(tmp_path)
    picture = np.array(Pillow.open(tmp_path / "whole" / "previews" / "step-00000012.png"))
    clean = data.at(0).clean.permute(0, 2, 3, 1).numpy()
    assert picture.shape == (4 * 8, 2 * 8, 3)
    assert np.array_equal(picture[8:16, :8], clean[1])
    assert np.array_equal(picture[8:16, 8:], clean[1][:, ::-1])


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    data, _ = whole(tmp_path)
    with pytest.raises(ValueError, match="holds a run already"):
        train(Toy(), data, folder=tmp_path / "whole", resume=False, **RUN)


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    data, _ = whole(tmp_path)
    data.seed = 4
    with pytest.raises(ValueError, match=r"over other data \(seed changed\)"):
        train(Toy(), data, folder=tmp_path / "whole", **RUN)


def _metrics(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{"step": line["step"], "l1": line["l1"]} for line in lines if "event" not in line]
