"""Many photographs through one network: batches are shared, errors stay with their photograph, memory is bounded."""

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeprior.photos.decisions import Decision
from codeprior.photos.faces import Crop
from codeprior.photos.restoration import Prepared, Restored
from codeprior.photos.stream import stream

_PIXELS = np.zeros((4, 4, 3), np.uint8)
_LEFT = Decision("left", "good enough", 2.0)
_MATRIX = np.array([[1.0, 0, 0], [0, 1, 0]])


class _Calls:
    """Photographs of so many faces each; a face's value is its photograph's number."""

    def __init__(self, faces: list[int], bad: frozenset[int] = frozenset(), sour: frozenset[int] = frozenset()):
        self.faces, self.bad, self.sour = faces, bad, sour
        self.batches: list[int] = []
        self.left: set[tuple[int, int]] = set()
        self.open = self.most = 0
        self.lock = threading.Lock()

    def prepare(self, job: int) -> Prepared:
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        if job in self.bad:
            self.close()
            raise ValueError(f"{job} is bad")
        crops = [Crop(torch.full((3, 2, 2), float(job)), _MATRIX) for _ in range(self.faces[job])]
        chosen: list[None] = [None] * self.faces[job]
        decisions = [_LEFT if (job, at) in self.left else None for at in range(self.faces[job])]
        return Prepared(_PIXELS, [], list(range(self.faces[job])), crops, crops, decisions, list(chosen))

    def restore(self, images: torch.Tensor, fidelities: Sequence[float | None]) -> Restored:
        assert len(fidelities) == len(images)
        assert threading.current_thread() is threading.main_thread()
        self.batches.append(len(images))
        if any(float(image[0, 0, 0]) in self.sour for image in images):
            raise RuntimeError("sour")
        return Restored(images + 0.5, images[:, 0])

    def finish(self, job: int, prepared: Prepared, restored: Restored) -> list[float]:
        self.close()
        assert restored.images.shape == (self.faces[job], 3, 2, 2)
        assert restored.uncertainty is not None and len(restored.uncertainty) == self.faces[job]
        return restored.images[:, 0, 0, 0].tolist()

    def close(self) -> None:
        with self.lock:
            self.open -= 1

    def outcomes(self, **options: int) -> dict[int, tuple]:
        found = stream(range(len(self.faces)), self.restore, prepare=self.prepare, finish=self.finish, **options)
        return {one.job: (one.result, one.error) for one in found}


@settings(max_examples=40, deadline=None)
@given(faces=st.lists(st.integers(1, 5), max_size=20), batch=st.integers(1, 6), ahead=st.integers(1, 9), data=st.data())
def test_every_photograph_has_one_outcome_and_its_own_faces(faces, batch, ahead, data):
    numbers = st.frozensets(st.integers(0, 20), max_size=4)
    calls = _Calls(faces, data.draw(numbers), data.draw(numbers))
    outcomes = calls.outcomes(batch=batch, ahead=ahead, workers=2)
    assert set(outcomes) == set(range(len(faces)))
    for job, (result, error) in outcomes.items():
        if job in calls.bad:
            assert str(error) == f"{job} is bad"
        elif job in calls.sour:
            assert str(error) == "sour"
        else:
            assert result == [job + 0.5] * faces[job]
            assert error is None
    assert max(calls.batches, default=0) <= batch


def test_faces_of_several_photographs_share_a_batch():
    calls = _Calls([1] * 16)
    calls.outcomes(batch=8, ahead=16)
    assert calls.batches == [8, 8]


def test_half_of_the_photographs_under_way_is_prepared_while_the_network_runs():
    calls, during = _Calls([1] * 24), []
    network, begin = calls.restore, calls.prepare
    more = threading.Semaphore(0)

    def prepare(job: int) -> Prepared:
        if job >= 4:
            more.release()
        return begin(job)

    def restore(images: torch.Tensor, fidelities: Sequence[float | None]) -> Restored:
        # the batch of eight is not full; without a limit all photographs under way would wait here
        during.append(more.acquire(timeout=30) if len(during) == 0 else True)
        return network(images, fidelities)

    calls.prepare, calls.restore = prepare, restore
    assert len(calls.outcomes(batch=8, ahead=8)) == 24
    assert during[0] and max(calls.batches) <= 4


def test_workers_compute_in_one_thread_and_the_network_in_all_until_they_have_enough_to_do():
    before, seen = torch.get_num_threads(), {"workers": set(), "network": []}
    calls = _Calls([1] * 40)
    network, begin = calls.restore, calls.prepare

    def prepare(job: int) -> Prepared:
        seen["workers"].add(torch.get_num_threads())
        started = time.thread_time()
        while time.thread_time() - started < 0.003:  # far more than such a network takes
            pass
        return begin(job)

    def restore(images: torch.Tensor, fidelities: Sequence[float | None]) -> Restored:
        seen["network"].append(torch.get_num_threads())
        return network(images, fidelities)

    calls.prepare, calls.restore = prepare, restore
    try:
        torch.set_num_threads(3)
        calls.outcomes(batch=2, ahead=4, workers=2)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen["workers"] == {1}
    assert seen["network"][0] == 3 and seen["network"][-1] == 1


@pytest.mark.parametrize("count", [10, 200])
def test_no_more_photographs_are_open_than_asked_for(count):
    calls = _Calls([1] * count)
    calls.outcomes(batch=4, ahead=6)
    assert calls.most <= 6


def test_a_caller_that_stops_early_ends_the_threads():
    calls = _Calls([1] * 50)
    running = stream(range(50), calls.restore, prepare=calls.prepare, finish=calls.finish, batch=2, ahead=4)
    next(running)
    running.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("codeprior-photos")]


def test_a_restorer_that_gives_too_few_faces_is_named():
    calls = _Calls([2])
    calls.restore = lambda images, fidelities: Restored(images[:1])
    ((_, error),) = calls.outcomes().values()
    assert "gave 1 images for 2 faces" in str(error)


def test_faces_that_are_left_do_not_go_to_the_network():
    class Some(_Calls):
        def finish(self, job, prepared, restored):
            self.close()
            return len(restored.images), len(prepared.crops)

    calls = Some([2, 1, 3])
    calls.left = {(0, 1), (1, 0)}
    assert {job: result for job, (result, _) in calls.outcomes(batch=8).items()} == {0: (1, 2), 1: (0, 1), 2: (3, 3)}
    assert sum(calls.batches) == 4
