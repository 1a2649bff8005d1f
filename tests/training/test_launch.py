"""Launch files say what torchrun and the train command understand; torchrun itself restarts a run to the same bits."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch.distributed.run as torchrun
import yaml

from codeprior.recipes.daefr import train as recipe_train
from codeprior.recipes.daefr.launch import ray_train
from codeprior.recipes.daefr.settings import RestorationRecipe
from codeprior.training import Checkpoints
from codeprior.training import ray_train as any_train
from tests.torture import stages
from tests.torture.rank_failures import _both

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "examples" / "daefr" / "launch"
SHELL = ["one_node.sh", "elastic.sh", "slurm.sbatch"]
GIVEN = {"STAGE": "hq_codebook", "FACES": "/data/ffhq", "OUT": "runs/hq", "JOB": "hq1", "HEAD": "node0"}
SLURM = {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "77"}
# stand-ins write down how they were called
STAND_INS = {
    "torchrun": 'printf "%s\\n" "$@" > "$RECORD"',
    "srun": 'exec "$@"',
    "scontrol": 'if [ "$1" = show ]; then printf "node0\\nnode1\\n"; else echo "$@" >> "$RECORD.scontrol"; fi',
}


def called(command, tmp_path, **environment):
    """Runs a launch file with stand-ins for what it starts; gives how torchrun would have been called."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    given = {"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(tmp_path / "record")} | environment
    subprocess.run(command, env=given, check=True, timeout=60, cwd=tmp_path)
    return (tmp_path / "record").read_text().splitlines()


def understood(words):
    """Parses a call as torchrun and the train command would."""
    options = torchrun.get_args_parser().parse_args(words)
    assert options.module and options.training_script == "codeprior.recipes.daefr.train"
    return options, recipe_train.command().parser().parse_args(options.training_script_args)


@pytest.mark.parametrize("name", SHELL)
def test_a_launch_file_calls_torchrun_and_the_stage(tmp_path, name):
    options, stage = understood(called(["bash", str(LAUNCH / name)], tmp_path, **GIVEN, **SLURM))
    assert (stage.recipe, stage.faces, stage.out) == ("hq_codebook", [Path("/data/ffhq")], Path("runs/hq"))
    assert int(options.max_restarts) >= 3
    # the training thread decodes nothing, and every rank holds pictures only where all ranks' fit
    assert stage.workers >= 4 and stage.pictures == "auto"
    expected = {"one_node.sh": ("1:1", "static"), "elastic.sh": ("1:4", "c10d"), "slurm.sbatch": ("2", "c10d")}[name]
    assert (options.nnodes, options.rdzv_backend) == expected
    assert options.standalone == (name == "one_node.sh")
    if name != "one_node.sh":
        assert options.rdzv_endpoint == "node0:29400" and options.rdzv_id in ("hq1", "77")


@pytest.mark.parametrize("name", SHELL)
def test_a_launch_file_without_a_stage_says_so(tmp_path, name):
    given = {"PATH": os.environ["PATH"], "JOB": "j", "HEAD": "h"} | SLURM
    found = subprocess.run(["bash", str(LAUNCH / name)], env=given, capture_output=True, text=True, timeout=60)
    assert found.returncode != 0
    assert "STAGE: one of the recipes" in found.stderr


def test_slurm_is_asked_for_a_warning_and_a_requeue():
    asked = [line.split()[1] for line in (LAUNCH / "slurm.sbatch").read_text().splitlines() if line[:7] == "#SBATCH"]
    assert {"--signal=B:USR1@180", "--requeue", "--ntasks-per-node=1"} <= set(asked)


def test_slurm_stops_the_training_and_queues_again_when_the_time_is_nearly_up(tmp_path, monkeypatch):
    # the training ends when it is asked to, and the batch script has been sent its warning by then
    monkeypatch.setitem(
        STAND_INS, "torchrun",
        'echo called > "$RECORD"; trap "echo stopped > $RECORD; exit 1" TERM; kill -USR1 $PPID; '
        "for n in $(seq 100); do sleep 0.1; done",
    )  # fmt: skip
    assert called(["bash", str(LAUNCH / "slurm.sbatch")], tmp_path, **GIVEN, **SLURM) == ["stopped"]
    assert (tmp_path / "record.scontrol").read_text() == "requeue 77\n"


def test_the_skypilot_task_is_whole_and_calls_the_stage(tmp_path):
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert set(task) <= {"name", "resources", "num_nodes", "envs", "file_mounts", "workdir", "setup", "run"}
    assert task["resources"]["use_spot"] and task["resources"]["accelerators"] == "H100:8"
    sky = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    environment = sky | {"SKYPILOT_TASK_ID": "t1"} | {key: task["envs"][key] for key in ("STAGE", "OPTIONS")}
    options, stage = understood(called(["bash", "-euc", task["run"]], tmp_path, **environment))
    assert stage.perceptual_weights == "/runs/vgg16.pth"
    assert stage.workers >= 4 and stage.pictures == "disk"
    assert (options.rdzv_endpoint, options.nproc_per_node) == ("10.0.0.1:29400", "8")
    assert {str(stage.faces[0]), str(stage.out.parent)} == set(task["file_mounts"])


def test_the_readmes_commands_are_whole_and_find_each_other():
    text = (LAUNCH.parent / "README.md").read_text().replace("\\\n", " ")
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("torchrun ")]
    found = {stage.recipe: stage for _, stage in (understood(command[1:]) for command in commands)}
    assert list(found) == ["hq_codebook", "lq_codebook", "association", "restoration"]
    for name, stage in found.items():
        recipe = recipe_train.RECIPES[name]()
        # what has no packaged weights is named, and later stages look for the earlier ones beside their own folder
        assert isinstance(recipe, RestorationRecipe) == (stage.perceptual_weights is None)
        assert stage.out == Path("runs") / name


def test_ray_starts_the_stage_on_every_worker(monkeypatch):
    made = {}
    config = SimpleNamespace

    def trainer(**options):
        made.update(options)
        return SimpleNamespace(fit=lambda: made.setdefault("fitted", True))

    ray = SimpleNamespace(FailureConfig=config, RunConfig=config, ScalingConfig=config)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(train=ray))
    monkeypatch.setitem(sys.modules, "ray.train", ray)
    monkeypatch.setitem(sys.modules, "ray.train.torch", SimpleNamespace(TorchTrainer=trainer, TorchConfig=config))
    words = ["hq_codebook", "--faces", "/data/ffhq", "--out", "runs/hq"]
    assert ray_train.main(["--workers", "4", "--", *words]) == 0
    assert made["fitted"] and made["scaling_config"].num_workers == 4
    # checkpoints gather tensors of the CPU, which NCCL alone does not serve
    assert made["torch_config"].backend == "cpu:gloo,cuda:nccl"
    assert made["run_config"].failure_config.max_failures == -1
    seen = []
    monkeypatch.setattr(recipe_train, "main", lambda given: seen.append(given) or 75)
    with pytest.raises(RuntimeError, match="ended with status 75"):
        made["train_loop_per_worker"](made["train_loop_config"])
    assert seen == [words]
    # any family's training command, by its module
    assert any_train.main(["--cpu", "codeprior.recipes.vqfr.train", "--", *words]) == 0
    assert made["train_loop_config"] == {"module": "codeprior.recipes.vqfr.train", "words": words}
    assert made["torch_config"].backend == "gloo"


def launched(folder, *words, restarts):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        f"--max-restarts={restarts}", "-m", "tests.torture.under_torchrun", str(folder), *words,
    ]  # fmt: skip
    given = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=400)


def truth(folder):
    stages.stream(folder / "faces")
    ends, _ = _both(folder, "hq", folder / "whole", "none", 60)
    return ends[0][64:]


def test_torchrun_restarts_a_killed_rank_to_the_same_bits(tmp_path):
    expected = truth(tmp_path)  # writes the faces too, before the ranks look for them
    found = launched(tmp_path, "--kill", "1", restarts=3)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "failed-once").exists()
    assert '"event": "resumed", "bitwise": true' in (tmp_path / "run" / "log.jsonl").read_text()
    assert (tmp_path / "end").read_text() == expected


@pytest.mark.slow
def test_torchrun_that_is_asked_to_stop_leaves_a_checkpoint(tmp_path):
    expected = truth(tmp_path)
    found = launched(tmp_path, "--stop", restarts=3)
    assert found.returncode != 0
    # ranks ask one another every ten steps
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps()[-1] == 10
    assert not (tmp_path / "end").exists()
    assert launched(tmp_path, restarts=0).returncode == 0
    assert (tmp_path / "end").read_text() == expected
