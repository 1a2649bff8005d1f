"""Photographs spread over the workers of a Ray cluster: Ray Data shares them out, and again where a worker dies.

A result is written in one step, so what tells that a photograph is done is its result: a worker that is given the
photographs of one that died leaves out those whose results are there. The machine that asks writes the report.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from codeprior.commands._jobs import Job
from codeprior.extras import needed

Entry = dict[str, Any]
Work = Callable[[list[Job]], Iterator[tuple[Job, Entry]]]
"""Does some jobs, and gives what the report says of each."""
_SHARE = 16  # photographs that a worker is given at once, and that are done again after it died


def add_arguments(parser: Any) -> None:
    """Adds the words of commands that run on a cluster.

    Args:
        parser: A command's own parser.
    """
    parser.add_argument(
        "--ray", metavar="local|ADDRESS", help="spread the work over a Ray cluster, or over this machine's cores"
    )
    parser.add_argument(
        "--ray-workers", type=int, default=0, metavar="N", help="workers (default: a core each, a GPU with cuda)"
    )


def spread(
    jobs: Sequence[Job], make: Callable[[], Work], *, address: str, workers: int = 0, gpu: bool = False
) -> Iterator[tuple[Job, Entry]]:
    """Gives what became of each job, as workers report it, in any order.

    Args:
        jobs: What there is to do. Sources and targets are paths that every machine of the cluster sees.
        make: Gives what a worker does; called once a worker, on its machine.
        address: Of the cluster, or `local`.
        workers: How many; 0 takes one for each core of the cluster, or for each GPU.
        gpu: Whether a worker has a GPU.

    Raises:
        ImportError: Ray is not installed.
        RuntimeError: No worker could be made, or the cluster is not reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports to its makers
    ray: Any = needed("ray", who="--ray")
    data: Any = needed("ray.data", who="--ray")
    if not jobs:
        return
    own = not ray.is_initialized()
    try:
        if own:
            more = {"include_dashboard": False} if address == "local" else {"address": address}
            ray.init(log_to_driver=False, **more)
        data.DataContext.get_current().enable_progress_bars = False
        there = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 1))
        count = workers or max(1, min(there, -(-len(jobs) // _SHARE)))
        rows = [{"number": number, "job": _written(job)} for number, job in enumerate(jobs)]
        blocks = -(-len(rows) // _SHARE)
        done = data.from_items(rows, override_num_blocks=max(blocks, 1)).map_batches(
            _Worker, fn_constructor_args=(make, os.getcwd()), concurrency=count, batch_size=None,
            num_cpus=None if gpu else 1, num_gpus=1 if gpu else None,
        )  # fmt: skip
        for row in done.iter_rows():
            yield jobs[row["number"]], json.loads(row["entry"])
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise RuntimeError(f"Ray: {' '.join(str(error).split())[-500:]}") from error
    finally:
        if own and ray.is_initialized():
            ray.shutdown()


class _Worker:
    """What runs on a machine of the cluster; the model is loaded once.

    Args:
        make: Gives what it does.
        folder: What the paths are relative to. A worker begins where its cluster was started, and would read other
            photographs of the same names there.
    """

    def __init__(self, make: Callable[[], Work], folder: str):
        self._lost: str | None = None
        try:
            os.chdir(folder)
        except OSError as error:
            self._lost = f"a worker does not see the folder {folder} ({error.strerror}); give whole paths, or share it"
        self._work = make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        numbers = {job: int(number) for job, number in zip(map(_read, batch["job"]), batch["number"], strict=True)}
        lost = [job for job in numbers if self._lost and not (job.source.is_absolute() and job.target.is_absolute())]
        done: list[tuple[Job, Entry]] = [(job, {"status": "failed", "reason": self._lost}) for job in lost]
        done += self._work([job for job in numbers if job not in set(lost)])
        return {"number": [numbers[job] for job, _ in done], "entry": [json.dumps(entry) for _, entry in done]}


def may_be_a_workers(path: Path) -> bool:
    """Says whether a worker that died can have written what has the name of a result: a file, never a link to one.

    Args:
        path: The name.
    """
    return path.is_file() and not path.is_symlink()


def _written(job: Job) -> str:
    return json.dumps([str(job.source), str(job.target), job.stem, str(job.relative)])


def _read(text: str) -> Job:
    source, target, stem, relative = json.loads(str(text))
    return Job(Path(source), Path(target), stem=stem, relative=Path(relative))
