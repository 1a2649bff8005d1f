"""A stage as a Ray Train job: Ray starts the ranks and starts them again; checkpoints and resume stay the run's own.

`python -m codeprior.recipes.daefr.launch.ray_train --workers 8 -- hq_codebook --faces /data/ffhq --out /shared/runs/hq`
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from codeprior.training.engine import BOTH_DEVICES

from ..train import main as train


def main(argv: Sequence[str] | None = None) -> int:
    """Starts the job and waits for its end; returns 0.

    Args:
        argv: The words after the name of the program; those of the process without it.

    Raises:
        ImportError: Ray is not installed; `pip install "ray[train]"`.
    """
    arguments = parser().parse_args(argv)
    from ray.train import FailureConfig, RunConfig, ScalingConfig  # pyright: ignore[reportMissingImports]
    from ray.train.torch import TorchConfig, TorchTrainer  # pyright: ignore[reportMissingImports]

    TorchTrainer(
        train_loop_per_worker=one_worker,
        torch_config=TorchConfig(backend="gloo" if arguments.cpu else BOTH_DEVICES),
        train_loop_config={"words": [word for word in arguments.words if word != "--"]},
        scaling_config=ScalingConfig(num_workers=arguments.workers, use_gpu=not arguments.cpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=arguments.failures)),
    ).fit()
    return 0


def one_worker(config: dict[str, Any]) -> None:
    """Runs one rank; Ray has joined the process group, and `started` leaves it as it is.

    Args:
        config: `words`, the command line of the stage.

    Raises:
        RuntimeError: The stage ended with an error, or stopped before it was complete.
    """
    status = train(config["words"])
    if status:
        raise RuntimeError(f"ray_train: the stage ended with status {status}; see its log.")


def parser() -> argparse.ArgumentParser:
    """Gives the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m codeprior.recipes.daefr.launch.ray_train", description=__doc__)
    made.add_argument("--workers", type=int, default=8, help="ranks, a GPU each")
    made.add_argument("--cpu", action="store_true", help="ranks without GPUs")
    made.add_argument("--failures", type=int, default=-1, help="restarts before giving up; -1 for ever")
    made.add_argument("words", nargs=argparse.REMAINDER, help="-- and the words of the train command")
    return made


if __name__ == "__main__":
    sys.exit(main())
