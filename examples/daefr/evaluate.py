"""The table of the paper on any folder of clean faces: input and any number of restorers, measured alike.

    python -m examples.daefr.evaluate --faces FOLDER --split test --out OUT \
        --method "single encoder=single.safetensors" --method "DAEFR=daefr.safetensors"

Each `--preset` gives a folder in OUT with the set (`set.json`: faces, checksums, drawn values), one row an image
(`scores.csv`), summaries with provenance (`results.json`) and the tables (`results.md`). The columns are PSNR, SSIM, a
perceptual distance and the identity angle; what each looks through is written under the table. A finished set is used
again if it is the one asked for. On 304 faces and three 128 px models it takes about two minutes on one core.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from codeprior import __version__, metrics, to_signed
from codeprior.metrics.measures import Measure, score
from codeprior.metrics.provenance import checksum
from codeprior.metrics.results import Results
from codeprior.shapes import Image

from .restore import Restorer, load
from .test_set import TestSet, build

Restore = Callable[[Image], Image]
"""Unit images to unit images."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status: 0 all measured, 1 nothing could be, 3 some faces were left out."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1


def evaluate(
    faces: str | Path, test_set: TestSet, restorers: Mapping[str, Restore], *, measures: Sequence[Measure], size: int,
    batch: int = 16, teacher: torch.nn.Module | None = None,
) -> Results:  # fmt: skip
    """Measures the input and every restorer on a test set.

    Args:
        faces: Folder of the clean faces.
        test_set: Which of them, and how degraded.
        restorers: Name to unit images in, unit images out.
        measures: The columns.
        size: Side of the images, pixels.
        batch: Faces at once.
        teacher: The VQGAN whose codes are the truth; then the codes of `Restorer`s are counted in the settings.

    Returns:
        The method `input` and the restorers, by face; faces that cannot be read are named as missing.
    """
    results = Results(measures=measures, groups={face.name: face.identity for face in test_set.faces})
    codes = {name: _Codes(restorer) for name, restorer in restorers.items() if isinstance(restorer, Restorer)}
    with tqdm(total=len(test_set.faces), unit="face", desc=test_set.preset, disable=None) as progress:
        for pairs in test_set.batches(faces, size=size, batch=batch):
            names = [face.name for face in pairs.faces]
            if names:
                with torch.inference_mode():
                    images = {name: restore(pairs.degraded) for name, restore in restorers.items()}
                    if teacher is not None:
                        truth = teacher.encode(to_signed(pairs.clean)).indices  # pyright: ignore[reportCallIssue]
                        for counted in codes.values():
                            counted.add(pairs.degraded, truth)
                results.add(names, score(measures, {"input": pairs.degraded, **images}, pairs.clean))
            for method in ["input", *restorers] if pairs.gone else []:
                results.missing.setdefault(method, {}).update(pairs.gone)
            progress.update(len(names) + len(pairs.gone))
    if teacher is not None:
        results.settings["codes"] = {name: counted.summary() for name, counted in codes.items()}
    return results


def default_measures() -> list[Measure]:
    """Gives PSNR, SSIM, and the perceptual and identity columns whose weights are installed.

    Writes to stderr which are left out and how to get them.
    """
    columns = [metrics.psnr_measure(), metrics.ssim_measure()]
    for make in (
        lambda: metrics.perceptual_measure(metrics.MobileNetTrunk(), name="perceptual"),
        lambda: metrics.identity_measure(metrics.DlibFace()),
    ):
        try:
            columns.append(make())
        except metrics.WeightsMissing as missing:
            print(f"evaluate: a column is left out: {missing}", file=sys.stderr)
    return columns


class _Codes:
    """Counts right codes and used codes of one restorer."""

    def __init__(self, restorer: Restorer):
        self.model, self.right, self.indices = restorer.model, [], []

    def add(self, degraded: Image, truth: torch.Tensor) -> None:
        logits = self.model(to_signed(degraded)).logits
        self.right.append(metrics.code_accuracy(logits, truth))
        self.indices.append(logits.argmax(-1))

    def summary(self) -> dict[str, float]:
        usage = metrics.codebook_usage(torch.cat(self.indices), self.model.prior.size)
        return {"accuracy": float(torch.cat(self.right).mean()), **usage._asdict()}


def _run(options: argparse.Namespace) -> int:
    methods = dict(_named(text) for text in options.method)
    restorers = {name: load(path, batch=options.batch) for name, path in methods.items()}
    sizes = {name: restorer.size for name, restorer in restorers.items()}
    size = options.size or next(iter(sizes.values()), 512)
    if any(other != size for other in sizes.values()):
        raise ValueError(f"the methods restore different sizes, {sizes}; evaluate those of one size together.")
    teacher = None
    if options.teacher:
        from codeprior.weights import load as load_module

        teacher = load_module(options.teacher).eval()
    measures, left_out = default_measures(), False
    for preset in options.preset or ["daefr"]:
        began, folder = time.monotonic(), Path(options.out) / preset
        test_set = _set(options, preset, folder)
        results = evaluate(
            options.faces, test_set, restorers, measures=measures, size=size, batch=options.batch, teacher=teacher
        )
        if not results.values:
            raise ValueError(f"no face of {options.faces} could be read.")
        results.settings |= {
            "preset": preset,
            "seed": test_set.seed,
            "faces": len(test_set.faces),
            "identities": len({face.identity for face in test_set.faces}),
            "size": size,
            "degradation_size": test_set.degradation_size,
            "set_sha256": checksum(folder / "set.json"),
            "methods": {name: {"weights": Path(path).name, "sha256": _hash(path)} for name, path in methods.items()},
            "versions": {"codeprior": __version__, "torch": torch.__version__},
            "seconds": round(time.monotonic() - began, 1),
        }
        results.write(folder, baseline=options.baseline or "input")
        print(f"\n{preset}, {len(test_set.faces)} faces, {size} px\n")
        print(results.as_markdown(baseline=options.baseline or "input"))
        left_out |= bool(results.missing or test_set.unreadable)
        for file, reason in test_set.unreadable.items():
            print(f"evaluate: {options.faces}/{file}: {reason}", file=sys.stderr)
    return 3 if left_out else 0


def _set(options: argparse.Namespace, preset: str, folder: Path) -> TestSet:
    """Gives the set that is asked for by file, else the one in the folder if it is the same, else a new one."""
    folder.mkdir(parents=True, exist_ok=True)
    if options.set:
        test_set = TestSet.load(options.set)
        if test_set.preset != preset:
            raise ValueError(f"{options.set} is of the preset {test_set.preset}; say --preset {test_set.preset}.")
    else:
        test_set = build(options.faces, preset=preset, seed=options.seed, split=options.split, limit=options.limit)
    test_set.save(folder / "set.json")
    return test_set


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path) or name == "input":
        raise ValueError(f'expected --method "NAME=WEIGHTS" with a name other than input, got {text!r}.')
    return name, path


def _hash(path: str) -> str:
    return checksum(path) if Path(path).is_file() else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate", description="Measures restorers on degraded faces.")
    parser.add_argument("--faces", required=True, type=Path, help="folder of clean aligned faces")
    parser.add_argument("--split", help="only this split of the folder's index.csv")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--method", action="append", default=[], metavar="NAME=WEIGHTS", help="a restorer; repeatable")
    parser.add_argument("--preset", action="append", help="degradation; repeatable (daefr)")
    parser.add_argument("--seed", type=int, default=0, help="of the degradations (0)")
    parser.add_argument("--set", type=Path, help="a set.json to use instead of building one")
    parser.add_argument("--limit", type=int, help="at most so many faces, spread evenly")
    parser.add_argument("--size", type=int, help="pixels; the restorers' own where nothing is given")
    parser.add_argument("--batch", type=int, default=16, help="faces at once (16)")
    parser.add_argument("--baseline", help="method that the others are compared with (input)")
    parser.add_argument("--teacher", type=Path, help="weights of the clean VQGAN: counts right codes too")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
