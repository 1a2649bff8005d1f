"""The paper's ablation at small size: what each part of DAEFR is worth, with standard errors over seeds.

`python -m codeprior.recipes.daefr.ablate --faces FACES --held-out OTHER_FACES --out runs/ablation --seeds 0 1 2`

Stages 1a and 1b are trained once, or taken from `--hq` and `--lq`; association (unless `--associated` names a folder of
it) and restoration are trained for every seed, which draws their fresh weights, the order of the faces and the damage.
Every variant of a seed sees the same faces, and makes as many steps. Started again on the same folder, it goes on: a
variant and seed that is judged already, in `cells.jsonl`, is not touched again.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from codeprior import weights
from codeprior.commands._outputs import check_outputs
from codeprior.evaluation import Cells, Figures, ablation_table
from codeprior.losses import PerceptualLoss
from codeprior.prior import VQGAN
from codeprior.stages import CodeExam, use_cached_codes
from codeprior.stages.earlier import load_part, perceptual_loss
from codeprior.training import Saving, Source, Stage, Stream, open_images, train

from . import settings
from .association_stage import AssociationStage
from .codebook_stage import CodebookStage
from .restoration_stage import RestorationStage
from .settings import Network


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


_TITLES = {name: variant.title for name, variant in VARIANTS.items()}


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
    """Gives the figures of every variant, a mapping per seed; also writes them to `results.json` and `table.md`.

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
    exam: CodeExam | None = None
    for seed in arguments.seeds:
        for name, variant in VARIANTS.items():
            if (name, seed) in journal.found:
                continue
            first, second = bench.association(hq, lq, seed) if variant.associated else (hq, lq)
            stage = bench.restoration(variant, hq, first, second, seed, name)
            exam = exam or CodeExam(stage, held_out)
            journal.add(name, seed, exam.judge(stage))
    return journal.write_table(_TITLES, arguments.seeds, full="full")


def table(results: Figures) -> str:
    """Gives the table of the variants; see `codeprior.evaluation.ablation_table`."""
    return ablation_table(results, _TITLES, full="full")


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
            first, second = (load_part(path, VQGAN) for path in (hq, lq))
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
        stage = RestorationStage(
            recipe, teacher=load_part(teacher, VQGAN), hq=load_part(hq, VQGAN), lq=load_part(lq, VQGAN)
        )
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
        return perceptual_loss(recipe.perceptual, self.arguments.perceptual_weights)


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
