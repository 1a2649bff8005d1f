r"""A stage of any family as a Ray Train job: Ray starts the ranks, and starts them again after a failure.

`python -m codeprior.training.ray_train --workers 8 codeprior.recipes.daefr.train -- hq_codebook --faces /data/ffhq \
    --out /shared/runs/hq`

Checkpoints and resuming stay the run's own.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from codeprior.training.engine import BOTH_DEVICES


def main(argv: Sequence[str] | None = None, *, module: str | None = None) -> int:
    """Starts the job and waits for its end; returns 0.

    Args:
        argv: The words after the name of the program; those of the process without it.
        module: A training command, which has `main(words)`; by default the first of the words names it.

    Raises:
        ImportError: Ray is not installed; `pip install "ray[train]"`.
    """
    arguments = parser(module).parse_args(argv)
    from ray.train import FailureConfig, RunConfig, ScalingConfig  # pyright: ignore[reportMissingImports]
    from ray.train.torch import TorchConfig, TorchTrainer  # pyright: ignore[reportMissingImports]

    words = [word for word in arguments.words if word != "--"]
    TorchTrainer(
        train_loop_per_worker=one_worker,
        torch_config=TorchConfig(backend="gloo" if arguments.cpu else BOTH_DEVICES),
        train_loop_config={"module": arguments.module, "words": words},
        scaling_config=ScalingConfig(num_workers=arguments.workers, use_gpu=not arguments.cpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=arguments.failures)),
    ).fit()
    return 0


def one_worker(config: dict[str, Any]) -> None:
    """Runs one rank; Ray has joined the process group, and `started` leaves it as it is.

    Args:
        config: `module`, the training command, and `words`, its command line.

    Raises:
        RuntimeError: The stage ended with an error, or stopped before it was complete.
    """
    status = import_module(config["module"]).main(config["words"])
    if status:
        raise RuntimeError(f"ray_train: the stage ended with status {status}; see its log.")


def parser(module: str | None = None) -> argparse.ArgumentParser:
    """Gives the parser of the command line.

    Args:
        module: A training command; without it the first of the words names it.
    """
    made = argparse.ArgumentParser(prog="ray_train", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--workers", type=int, default=8, help="ranks, a GPU each")
    made.add_argument("--cpu", action="store_true", help="ranks without GPUs")
    made.add_argument("--failures", type=int, default=-1, help="restarts before giving up; -1 for ever")
    if module is None:
        made.add_argument("module", help="the training command, such as codeprior.recipes.daefr.train")
    made.set_defaults(**({} if module is None else {"module": module}))
    made.add_argument("words", nargs=argparse.REMAINDER, help="-- and the words of the training command")
    return made


if __name__ == "__main__":
    sys.exit(main())
