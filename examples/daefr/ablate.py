"""The paper's ablation at small size: what each part of DAEFR is worth, with standard errors over seeds.

`python -m codeprior.recipes.daefr.ablate --faces FACES --held-out OTHER_FACES --out runs/ablation --seeds 0 1 2`

Stages 1a and 1b are trained once, or taken from `--hq` and `--lq`; association (unless `--associated` names a folder of
it) and restoration are trained for every seed, which draws their fresh weights, the order of the faces and the damage.
Every variant of a seed sees the same faces, and makes as many steps. Started again on the same folder, it goes on: a
variant and seed that is judged already, in `cells.jsonl`, is not touched again.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch

from codeprior import files, to_unit, weights
from codeprior.commands._outputs import check_outputs
from codeprior.losses import PerceptualLoss, code_accuracy, code_loss
from codeprior.metrics import psnr
from codeprior.prior import VQGAN
from codeprior.stages import use_cached_codes
from codeprior.training import Saving, Source, Stage, Stream, open_images, train

from . import settings
from .association_stage import AssociationStage
from .cells import Cells
from .codebook_stage import CodebookStage
from .restoration_stage import RestorationStage
from .settings import Network

HIGHER = {"accuracy": True, "code": False, "psnr": True}
"""The figures of a table, and whether more is better: share of right codes, their cross-entropy, dB."""


class Variant(NamedTuple):
    """One row of the table."""

    title: str
    branches: str
    associated: bool
    fusion: str


VARIANTS: Mapping[str, Variant] = {
    "single": Variant("one encoder", "single", False, "attention"),
    "unassociated": Variant("two encoders, no association", "dual", False, "attention"),
    "linear": Variant("association, linear fusion", "dual", True, "linear"),
    "full": Variant("association, cross-attention (DAEFR)", "dual", True, "attention"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is not trained yet and prints the table; returns 0, or 2 for bad input."""
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        print(table(run(arguments)))
    except (ValueError, FileNotFoundError) as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    return 0


def run(arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Gives the figures of every variant, a mapping a seed; also writes them to `results.json` and `table.md`.

    Raises:
        ValueError: The folder holds an ablation under other conditions.
    """
    sizes = _networks()[arguments.network]
    side = arguments.degradation_size or max(sizes.size, 128)
    names = ("results.json", "table.md", "cells.jsonl", "conditions.json")
    check_outputs(arguments.out, names, marker="conditions.json", keys=("faces", "held_out"), overwrite=False)
    journal = Cells(arguments.out, _conditions(arguments))
    faces, held_out = (
        open_images(folders, size=side, cached=True) for folders in (arguments.faces, arguments.held_out)
    )
    bench = _Bench(arguments, sizes, side, faces)
    hq = bench.codebook("hq_codebook", arguments.hq)
    lq = bench.codebook("lq_codebook", arguments.lq)
    exam: Exam | None = None
    for seed in arguments.seeds:
        for name, variant in VARIANTS.items():
            if (name, seed) in journal.found:
                continue
            first, second = bench.association(hq, lq, seed) if variant.associated else (hq, lq)
            stage = bench.restoration(variant, hq, first, second, seed, name)
            exam = exam or Exam(stage, held_out)
            journal.add(name, seed, exam.judge(stage))
    results = {name: [journal.found[name, seed] for seed in arguments.seeds] for name in VARIANTS}
    files.write(arguments.out / "results.json", json.dumps(results, indent=1) + "\n", overwrite=True)
    files.write(arguments.out / "table.md", table(results) + "\n", overwrite=True)
    return results


class Exam:
    """Faces that no restorer has seen, each degraded once, the same way for all, with the teacher's codes.

    Args:
        stage: Whose teacher and damage are everybody's.
        held_out: Faces.
    """

    @torch.no_grad()
    def __init__(self, stage: RestorationStage, held_out: Source):
        # a batch that divides the count, so that the mean over batches is the mean over faces
        batch = max(size for size in range(1, 17) if len(held_out) % size == 0)
        stream = Stream(held_out, batch=batch, seed=2024, flip=False)
        self.pairs = [stage.faces(stream.at(step)) for step in range(len(held_out) // batch)]
        self.targets = [stage.teacher.encode(pair.clean) for pair in self.pairs]

    @torch.no_grad()
    def judge(self, stage: RestorationStage) -> dict[str, float]:
        """Gives the figures of a trained stage, the names of `HIGHER`."""
        stage.model.eval()
        rows = []
        for pair, target in zip(self.pairs, self.targets, strict=True):
            logits = stage.model(pair.degraded).logits
            restored = to_unit(stage.prior.decode_indices(logits.argmax(-1)))
            rows.append(
                {"accuracy": float(code_accuracy(logits, target.indices)),
                 "code": float(code_loss(logits, target.indices)),
                 "psnr": float(psnr(restored, to_unit(pair.clean)).mean())}
            )  # fmt: skip
        return {name: mean(row[name] for row in rows) for name in HIGHER}


def table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Gives a Markdown table: the mean over seeds ± its standard error, and the paired difference to the full model.

    Args:
        results: Figures of every variant, a mapping a seed, in the same order of seeds.
    """
    names = list(HIGHER)
    lines = [
        "| variant | " + " | ".join(f"{name} | {name} − full" for name in names) + " |",
        "|---" * (1 + 2 * len(names)) + "|",
    ]
    for key, rows in results.items():
        cells = []
        for name in names:
            values = [row[name] for row in rows]
            apart = [value - other[name] for value, other in zip(values, results["full"], strict=True)]
            cells += [_with_error(values), "" if key == "full" else _with_error(apart)]
        lines.append(f"| {VARIANTS[key].title} | " + " | ".join(cells) + " |")
    seeds = len(results["full"])
    return "\n".join(
        [*lines, "", f"Mean ± standard error over {seeds} seeds" + (" (none with one)" * (seeds == 1)) + "."]
    )


class _Bench:
    """Trains the stages of the ablation, each in a folder of its own."""

    def __init__(self, arguments: argparse.Namespace, sizes: Network, side: int, faces: Source):
        self.arguments, self.sizes, self.side, self.faces = arguments, sizes, side, faces
        self.shared = {"network": sizes, "degradation_size": side} | (
            {"batch": arguments.batch} if arguments.batch else {}
        )
        # windows suit the small network; a smaller one sees whole faces
        self.windows = {} if sizes.size == settings.small_network().size else {"crop": None}

    def codebook(self, name: str, given: Path | None) -> Path:
        """Gives the weights of stage 1a or 1b."""
        path = given or self.arguments.out / name / "vqgan.safetensors"
        if not path.exists():
            base = {"hq_codebook": settings.hq_codebook_small, "lq_codebook": settings.lq_codebook_small}[name]()
            steps = self.arguments.codebook_steps or base.steps
            late = min(base.adversarial_start, steps * base.adversarial_start // base.steps)
            recipe = replace(base, steps=steps, adversarial_start=late, **self.shared, **self.windows)
            torch.manual_seed(recipe.seed)
            stage = CodebookStage(recipe, perceptual=self._perceptual(recipe))
            self._train(stage, recipe, recipe.seed, path.parent)
            weights.save(path, stage.model)
        return path

    def association(self, hq: Path, lq: Path, seed: int) -> tuple[Path, Path]:
        """Gives the weights of the two VQGANs of stage 2."""
        folder = self.arguments.associated or self.arguments.out / f"association-{seed}"
        paths = folder / "hq_vqgan.safetensors", folder / "lq_vqgan.safetensors"
        if not all(path.exists() for path in paths):
            base = settings.association_small()
            steps = self.arguments.association_steps or base.steps
            recipe = replace(base, steps=steps, seed=seed, **self.shared, **self.windows)
            torch.manual_seed(seed)
            first, second = (_vqgan(path) for path in (hq, lq))
            stage = AssociationStage(recipe, hq=first, lq=second, perceptual=self._perceptual(recipe))
            self._train(stage, recipe, seed, folder)
            for path, network in zip(paths, (stage.hq, stage.lq), strict=True):
                weights.save(path, network)
        return paths

    def restoration(
        self, variant: Variant, teacher: Path, hq: Path, lq: Path, seed: int, name: str
    ) -> RestorationStage:
        """Gives the trained stage 3 of a variant; the targets of every face are asked of the teacher once."""
        base = settings.restoration_small()
        steps = self.arguments.restoration_steps or base.steps
        recipe = replace(base, steps=steps, seed=seed, branches=variant.branches, fusion=variant.fusion, **self.shared)
        torch.manual_seed(seed)
        stage = RestorationStage(recipe, teacher=_vqgan(teacher), hq=_vqgan(hq), lq=_vqgan(lq))
        use_cached_codes(stage, self.arguments.out / "codes.safetensors", self.faces)
        self._train(stage, recipe, seed, self.arguments.out / f"{name}-{seed}")
        return stage

    def _train(self, stage: Stage, recipe, seed: int, folder: Path) -> None:
        stream = Stream(self.faces, batch=recipe.batch, seed=seed)
        every = max(1, recipe.steps // 4)
        train(
            stage, stream, folder=folder, steps=recipe.steps, saving=Saving(every=every, keep=1),
            log_every=max(1, every // 10), preview_every=recipe.steps, progress=not self.arguments.quiet,
        )  # fmt: skip

    def _perceptual(self, recipe) -> PerceptualLoss:
        from .train import perceptual_weights

        return PerceptualLoss(
            recipe.perceptual, weights=perceptual_weights(recipe.perceptual, self.arguments.perceptual_weights)
        )


def _vqgan(path: Path) -> VQGAN:
    found = weights.load(path)
    if not isinstance(found, VQGAN):
        raise ValueError(f"{path} holds a {type(found).__name__}; expected a VQGAN")
    return found


def _with_error(values: Sequence[float]) -> str:
    error = f" ± {stdev(values) / math.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{error}"


def _conditions(arguments: argparse.Namespace) -> dict[str, object]:
    # whatever a figure depends on; more seeds and another number of threads may come later
    free = ("out", "seeds", "threads", "quiet")
    plain = {key: value for key, value in vars(arguments).items() if key not in free}
    return json.loads(json.dumps(plain, default=str))


def _networks() -> dict[str, Network]:
    tiny = replace(
        settings.small_network(), size=32, dim=8, codes=16, channels=8, multipliers=(1, 2, 2), decoder_blocks=1,
        groups=4, fusion_groups=4, fusion_heads=2, width=16, layers=1, heads=2, hidden=16,
    )  # fmt: skip
    small = settings.small_network()
    return {"small": small, "narrow": replace(small, width=128, layers=2, heads=4, hidden=256), "tiny": tiny}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m codeprior.recipes.daefr.ablate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--faces", type=Path, nargs="+", required=True, help="folders of faces to train on")
    parser.add_argument("--held-out", type=Path, nargs="+", required=True, help="folders of other faces, to judge by")
    parser.add_argument("--out", type=Path, required=True, help="folder of all the runs, results.json and table.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run of every variant each")
    parser.add_argument(
        "--network", choices=_networks(), default="small", help="sizes; narrow: small with a quarter of the predictor"
    )
    parser.add_argument("--hq", type=Path, help="weights of stage 1a, instead of training them")
    parser.add_argument("--lq", type=Path, help="weights of stage 1b, instead of training them")
    parser.add_argument("--associated", type=Path, help="folder of stage 2, for all seeds, instead of training it")
    for stage in ("codebook", "association", "restoration"):
        parser.add_argument(f"--{stage}-steps", type=int, help="instead of the small recipe's")
    parser.add_argument("--batch", type=int, help="instead of the small recipes'")
    parser.add_argument("--degradation-size", type=int, help="pixels; side at which faces are degraded")
    parser.add_argument("--perceptual-weights", help="weights file of the perceptual network, or random")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 leaves torch's choice")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
