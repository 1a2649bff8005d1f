"""Many photographs through one network: faces of several share a batch, reading and writing go on meanwhile.

Worker threads decode, detect and align; the calling thread runs the network; workers paste and write. A fixed number of
photographs is under way at once, so memory does not grow with the number of photographs.
"""

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
    workers: int = 2,
    ahead: int = 8,
) -> Iterator[Outcome]:
    """Gives the outcome of every job, as they are done.

    Args:
        jobs: Whatever `prepare` understands, one a photograph.
        restore: The network: `b 3 size size`, unit, and what it is told of the fidelity of each face, to `Restored`.
            Faces that are left as they are do not come to it.
        prepare: Reads a photograph and cuts its faces out; runs in a worker thread.
        finish: Pastes and writes; runs in a worker thread.
        batch: Faces that go through the network at once.
        workers: Worker threads.
        ahead: Photographs under way at once.

    Yields:
        One outcome a job. An error of one photograph is that photograph's: where a batch fails, its photographs are
        tried again one by one.
    """
    source = iter(jobs)
    preparing: deque[tuple[Any, Future[Prepared]]] = deque()
    waiting: list[_Open] = []
    finishing: dict[Future[Any], Any] = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="codeprior-photos")
    try:
        while True:
            more = _fill(source, preparing, pool, prepare, ahead - len(waiting) - len(finishing))
            if preparing and (more or not finishing or preparing[0][1].done()):
                job, future = preparing.popleft()
                try:
                    waiting.append(_Open(job, future.result(), [], []))
                except Exception as error:
                    yield Outcome(job, None, error)
            full = sum(len(item.prepared.asked) for item in waiting) >= batch
            if waiting and (full or not preparing):
                for item, error in _run(waiting, restore, batch):
                    if error is None:
                        answer = Restored(
                            torch.cat(item.images) if item.images else torch.zeros(0, 3, 0, 0),
                            torch.cat(item.uncertainty) if item.uncertainty else None,
                        )
                        finishing[pool.submit(finish, item.job, item.prepared, answer)] = item.job
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
