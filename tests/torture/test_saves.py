"""A save that is stopped anywhere leaves the old state or the new; damage is always seen; a full disk costs nothing."""

import errno
import os
import shutil

import pytest
import torch
from torch import nn

from codeprior.training import Checkpoints
from codeprior.training.manifest import damage_of as _damage
from tests.torture.damage import harm
from tests.torture.saves import Disk, _standing_in, outcomes


class Counter(nn.Module):
    """A module whose every number says at which step it was saved."""

    def __init__(self, step: int = 0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((5,), float(step)))
        self.register_buffer("seen", torch.tensor(step))


def save(folder, step):
    Checkpoints(folder, keep=2).save(step, {"net": Counter(step), "more": Counter(-step)})


def check(folder):
    net, more = Counter(77), Counter(77)
    found = Checkpoints(folder).resume({"net": net, "more": more})
    if found is None:
        return None
    for module, sign in ((net, 1), (more, -1)):
        assert module.weight.tolist() == [sign * float(found.step)] * 5
        assert int(module.seen) == sign * found.step
    return found.step


def test_every_operation_of_a_save_can_be_the_last(tmp_path):
    found = list(outcomes(tmp_path, save, check))
    assert not [outcome for outcome in found if not outcome.sound]
    # a save of three files and a manifest with the removal of an old one, in three kinds of failure
    assert len(found) >= 3 * 26
    assert {outcome.found for outcome in found} == {2, 3}


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_is_an_error_and_leaves_the_old_checkpoint(tmp_path, background):
    save(tmp_path / "run", 1)
    with _standing_in(Disk(None)) as whole:
        save(shutil.copytree(tmp_path / "run", tmp_path / "copy"), 2)
    writes = [number for number, operation in enumerate(whole.log) if operation == "write"]
    for number in writes:
        stand_in = _Full(number)
        checkpoints = Checkpoints(tmp_path / "run", background=background)
        with _standing_in(stand_in), pytest.raises(OSError, match="No space left"):
            _save_and_wait(checkpoints)
        assert check(tmp_path / "run") == 1
    save(tmp_path / "run", 2)
    assert check(tmp_path / "run") == 2
    assert not list((tmp_path / "run").glob(".*"))


def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_the_old_checkpoint(tmp_path):
    save(tmp_path, 1)
    with _standing_in(_Full(0, errno.EROFS)), pytest.raises(OSError, match="Read-only file system"):
        save(tmp_path, 2)
    assert check(tmp_path) == 1


def test_three_hundred_damages_are_seen(tmp_path):
    for step in (1, 2):
        save(tmp_path / "sound", step)
    for seed in range(300):
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(tmp_path / "sound", run)
        how = harm(run / "step-00000002", seed)
        assert _damage(run / "step-00000002") is not None, how
        assert check(run) == 1, how


def _save_and_wait(checkpoints):
    checkpoints.save(2, {"net": Counter(2), "more": Counter(-2)})
    checkpoints.wait()


class _Full(Disk):
    """Reports an error, of writing unless told otherwise, at one operation, and again at every later write."""

    def __init__(self, number: int, error: int = errno.ENOSPC):
        super().__init__(None)
        self.number, self.error = number, error

    def __getattr__(self, name):
        found = super().__getattr__(name)
        if name not in ("write", "mkdir"):
            return found

        def failing(*args):
            if self.done >= self.number:
                raise OSError(self.error, os.strerror(self.error))
            return found(*args)

        return failing
