"""What `torchrun` runs in the tests: a tiny stage that kills one of its ranks once, or asks to be stopped."""

import argparse
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from codeprior import distributed
from codeprior.training import TorchEngine, started, train
from tests.torture import stages
from tests.torture.kills import RUN
from tests.torture.rank_failures import STEPS


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="scratch space; the run, the faces and the end lie in it")
    parser.add_argument("--kill", type=int, help="rank that kills itself at step 11, the first time")
    parser.add_argument("--stop", action="store_true", help="the launcher gets SIGTERM at step 3, the first time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with started(timeout=timedelta(minutes=1)):
        made = stages.stage("hq", engine=TorchEngine())
        update, once = made.update, arguments.folder / "failed-once"

        def failing(batch, step):
            if step == 11 and arguments.kill == distributed.rank() and not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if step == 3 and arguments.stop and distributed.rank() == 0 and not once.exists():
                once.touch()
                os.kill(os.getppid(), signal.SIGTERM)
                time.sleep(2)  # the launcher hands the signal on
            return update(batch, step)

        made.update = failing
        run = arguments.folder / "run"
        train(made, stages.stream(arguments.folder / "faces"), folder=run, **RUN | {"steps": STEPS})
        if distributed.rank() == 0:
            (arguments.folder / "end").write_text(stages.digest(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
