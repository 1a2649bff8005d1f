"""Many photographs through one network: faces of several share a batch, and reading and writing go on at the same time.

Worker threads decode, detect and align; the calling thread runs the network; workers paste and write. A fixed number of
photographs is under way at once, so memory does not grow with the number of photographs. Each worker computes in one
thread; the network does so too where the workers then keep the other cores busy.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import torch

from codeprior.photos.restoration import Prepared, Restored
from codeprior.shapes import Image


class Outcome(NamedTuple):
    """What became of one job.

    Attributes:
        job: As it was given.
        result: What `finish` returned, or None.
        error: What went wrong, or None.
    """

    job: Any
    result: Any
    error: Exception | None


class _Open(NamedTuple):
    job: Any
    prepared: Prepared
    images: list[Image]
    uncertainty: list[Image]


def stream(
    jobs: Iterable[Any],
    restore: Callable[[Image, Sequence[float | None]], Restored],
    *,
    prepare: Callable[[Any], Prepared],
    finish: Callable[[Any, Prepared, Restored], Any],
    batch: int = 8,
    workers: int | None = None,
    ahead: int = 8,
) -> Iterator[Outcome]:
    """Gives the outcome of every job, as they are done.

    Args:
        jobs: Whatever `prepare` understands, one per photograph.
        restore: The network: `b 3 size size`, unit, and a fidelity for each face, to `Restored`. Faces that are left as
            they are are not given to it.
        prepare: Reads a photograph and cuts its faces out; runs in a worker thread.
        finish: Pastes and writes; runs in a worker thread.
        batch: Faces that go through the network at once.
        workers: Worker threads; None takes as many as PyTorch has threads, at least 2 and at most 8.
        ahead: Photographs under way at once. A batch is not waited for when half of them are ready: the other half is
            prepared meanwhile.

    Yields:
        One outcome per job. An error concerns one photograph only: where a batch fails, its photographs are tried again
        one by one.
    """
    source = iter(jobs)
    preparing: deque[tuple[Any, Future[Prepared]]] = deque()
    waiting: list[_Open] = []
    finishing: dict[Future[Any], Any] = {}
    shares = _Shares()
    pool = ThreadPoolExecutor(
        workers or min(8, max(2, shares.cores)),
        thread_name_prefix="codeprior-photos",
        initializer=_compute_in_one_thread,
    )
    try:
        while True:
            more = _fill(source, preparing, pool, shares.counted(prepare), ahead - len(waiting) - len(finishing))
            if preparing and (more or not finishing or preparing[0][1].done()):
                job, future = preparing.popleft()
                try:
                    waiting.append(_Open(job, future.result(), [], []))
                except Exception as error:
                    yield Outcome(job, None, error)
            full = sum(len(item.prepared.asked) for item in waiting) >= batch or len(waiting) >= max(1, ahead // 2)
            if waiting and (full or not preparing):
                for item, error in _run(waiting, shares.chosen(restore), batch):
                    if error is None:
                        answer = Restored(
                            torch.cat(item.images) if item.images else torch.zeros(0, 3, 0, 0),
                            torch.cat(item.uncertainty) if item.uncertainty else None,
                        )
                        finishing[pool.submit(shares.counted(finish), item.job, item.prepared, answer)] = item.job
                    else:
                        yield Outcome(item.job, None, error)
                waiting = []
            idle = not preparing and not waiting
            if finishing:
                done, _ = wait(finishing, timeout=None if idle else 0, return_when=FIRST_COMPLETED)
                for future in done:
                    job, error = finishing.pop(future), future.exception()
                    if error is not None and not isinstance(error, Exception):
                        raise error
                    yield Outcome(job, None if error else future.result(), error)
            elif idle and not more:
                return
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(shares.cores)


def _compute_in_one_thread() -> None:
    torch.get_num_threads()  # without this first call the thread would take over what another one sets later
    torch.set_num_threads(1)


class _Shares:
    """Decides in how many threads the network computes, by the CPU time that it and the workers have taken so far."""

    def __init__(self):
        self.cores = torch.get_num_threads()
        self._network = self._work = 0.0
        self._lock = threading.Lock()

    def counted(self, work: Callable) -> Callable:
        """Gives the same function of a worker, with its CPU time counted."""

        def run(*given: Any) -> Any:
            started = time.thread_time()
            try:
                return work(*given)
            finally:
                with self._lock:
                    self._work += time.thread_time() - started

        return run

    def chosen(self, restore: Callable) -> Callable:
        """Gives the same network, run in one thread where the workers keep all other cores busy."""

        def run(*given: Any) -> Any:
            threads = 1 if 0 < self._network * (self.cores - 1) <= self._work else self.cores
            torch.set_num_threads(threads)
            started = time.thread_time()
            try:
                return restore(*given)
            finally:
                self._network += (time.thread_time() - started) * threads

        return run


def _fill(source: Iterator[Any], preparing: deque, pool: ThreadPoolExecutor, prepare: Callable, room: int) -> bool:
    """Starts preparing photographs while there is room; says whether there may be more jobs."""
    while len(preparing) < room:
        try:
            job = next(source)
        except StopIteration:
            return False
        preparing.append((job, pool.submit(prepare, job)))
    return True


def _run(
    waiting: list[_Open], restore: Callable[[Image, Sequence[float | None]], Restored], batch: int
) -> Iterator[tuple[_Open, Exception | None]]:
    try:
        _restore(waiting, restore, batch)
    except Exception as error:
        if len(waiting) == 1:
            yield waiting[0], error
            return
        for item in waiting:
            item.images.clear()
            item.uncertainty.clear()
            yield from _run([item], restore, batch)
        return
    yield from ((item, None) for item in waiting)


def _restore(waiting: list[_Open], restore: Callable[[Image, Sequence[float | None]], Restored], batch: int) -> None:
    places = [
        (item, item.prepared.crops[at].image, fidelity)
        for item in waiting
        for at, fidelity in zip(item.prepared.asked, item.prepared.fidelities, strict=True)
    ]
    for start in range(0, len(places), batch):
        part = places[start : start + batch]
        restored = restore(torch.stack([image for _, image, _ in part]), [fidelity for *_, fidelity in part])
        if len(restored.images) != len(part):
            raise ValueError(f"the restorer gave {len(restored.images)} images for {len(part)} faces")
        for position, (item, *_) in enumerate(part):
            item.images.append(restored.images[position : position + 1].cpu())
            if restored.uncertainty is not None:
                item.uncertainty.append(restored.uncertainty[position : position + 1].cpu())
