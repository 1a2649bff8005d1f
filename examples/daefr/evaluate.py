"""The table of the paper on any folder of clean faces: input and any number of restorers, measured alike.

    python -m examples.daefr.evaluate --faces FOLDER --split test --out OUT \
        --method "single encoder=single.safetensors" --method "DAEFR=daefr.safetensors"

Each `--preset` gives a folder in OUT with the set (`set.json`: faces, checksums, drawn values), one row an image
(`scores.csv`), summaries with provenance (`results.json`), the tables (`results.md`) and a page with the best and worst
faces (`report.html`). What is measured already, for the same faces, draws, weights and columns, is not measured again
(`journal.jsonl`), so a method that is added later costs only itself. Columns whose weights are not on this machine are
left out, and named.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import torch
from tqdm import tqdm

from codeprior import __version__, metrics, to_signed, to_unit
from codeprior.metrics.measures import Measure, score
from codeprior.metrics.provenance import checksum, distribution
from codeprior.metrics.results import Results
from codeprior.photos import files, sheets
from codeprior.shapes import Image

from .methods import Done, Restore, guarded, load_methods, weights_checksum
from .restore import Restorer
from .test_set import TestSet, build


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status: 0 all measured, 1 nothing could be, 3 some faces were left out."""
    return guarded("evaluate", _run, _parser().parse_args(arguments))


def evaluate(
    faces: str | Path, test_set: TestSet, restorers: Mapping[str, Restore], *, measures: Sequence[Measure], size: int,
    batch: int = 16, teacher: torch.nn.Module | None = None, pictures: Path | None = None, done: Done | None = None,
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
        pictures: Folder for the pictures themselves: `clean`, `input` and one folder a restorer.
        done: What an earlier run has measured, and where the rest is kept; faces and methods in it are not run again,
            unless their codes or pictures are wanted.

    Returns:
        The method `input` and the restorers, by face; faces that cannot be read are named as missing.
    """
    results = Results(measures=measures, groups={face.name: face.identity for face in test_set.faces})
    methods = ["input", *restorers]
    counted = {name: _Codes(restorer) for name, restorer in restorers.items() if _predicts(restorer)}
    if teacher is None:
        counted = {}
    known = (
        {}
        if done is None or counted or pictures is not None
        else done.known((face.name for face in test_set.faces), methods)
    )
    rows = [row for row, face in enumerate(test_set.faces) if len(known.get(face.name, {})) < len(methods)]
    rest = replace(test_set, faces=[test_set.faces[row] for row in rows], drawn=test_set.drawn[rows])
    for name, entries in known.items():
        results.add([name], {method: {k: [v] for k, v in entry.values.items()} for method, entry in entries.items()})
    with tqdm(total=len(rows), unit="face", desc=test_set.preset, disable=None) as progress:
        for pairs in rest.batches(faces, size=size, batch=batch):
            names = [face.name for face in pairs.faces]
            wanted = [method for method in methods if any(method not in known.get(name, {}) for name in names)]
            if names:
                with torch.inference_mode():
                    # codes that are counted are decoded as they are, so that no network runs twice
                    truth = None if teacher is None else teacher.encode(to_signed(pairs.clean)).indices  # pyright: ignore[reportCallIssue]
                    restored = {
                        name: counted[name].add(pairs.degraded, truth) if name in counted else restore(pairs.degraded)
                        for name, restore in restorers.items()
                        if name in wanted
                    }
                images = ({"input": pairs.degraded} if "input" in wanted else {}) | restored
                # every column sees what files would hold, so that `codeprior evaluate` on them gives the same figures
                images = {name: metrics.eight_bit(image) for name, image in images.items()}
                clean = metrics.eight_bit(pairs.clean)
                values = score(measures, images, clean)
                results.add(names, values)
                if done is not None:
                    done.add(names, values)
                if pictures is not None:
                    _keep(pictures, names, {"clean": clean, **images})
            for method in methods if pairs.gone else []:
                results.missing.setdefault(method, {}).update(pairs.gone)
            progress.update(len(names) + len(pairs.gone))
    if counted:
        results.settings["codes"] = {name: codes.summary() for name, codes in counted.items()}
    order = {face.name: place for place, face in enumerate(test_set.faces)}
    results.values = {
        method: dict(sorted(results.values[method].items(), key=lambda row: order[row[0]]))
        for method in methods
        if method in results.values
    }
    return results


def _predicts(restorer: Restore) -> TypeGuard[Restorer]:
    # not by class: the same files are two packages, `examples` and `codeprior.recipes`
    return hasattr(restorer, "examine") and hasattr(restorer, "model")


class _Codes:
    """Restores with one restorer, and counts its right codes and used codes."""

    def __init__(self, restorer: Restorer):
        self.model, self.right, self.indices = restorer.model, [], []

    def add(self, degraded: Image, truth: Any) -> Image:
        logits = self.model(to_signed(degraded)).logits
        self.right.append(metrics.code_accuracy(logits, truth))
        self.indices.append(logits.argmax(-1))
        return to_unit(self.model.prior.decode_indices(self.indices[-1]))

    def summary(self) -> dict[str, float]:
        usage = metrics.codebook_usage(torch.cat(self.indices), self.model.prior.size)
        return {"accuracy": float(torch.cat(self.right).mean()), **usage._asdict()}


def _run(options: argparse.Namespace) -> int:
    asked = options.columns.split(",") if options.columns else None
    measures, skipped = metrics.columns(asked, weights=options.weights, official=options.official)
    for name, reason in skipped.items():
        print(f"evaluate: the column {name} is left out: {reason}", file=sys.stderr)
    restorers, methods, size = load_methods(
        options.method, size=options.size, batch=options.batch, colour=options.match_colour
    )
    # the input, and where several restore, the first of them too
    baselines = options.baseline or ["input", *list(methods)[: len(methods) > 1]]
    if unknown := set(baselines) - {"input", *methods}:
        raise ValueError(f"--baseline: expected one of input, {', '.join(methods)}; got {', '.join(unknown)}.")
    teacher = None
    if options.teacher:
        from codeprior.weights import load as load_module

        teacher = load_module(options.teacher).eval()
    left_out = False
    for preset in options.preset or ["daefr"]:
        began, folder = time.monotonic(), Path(options.out) / preset
        test_set = _set(options, preset, folder)
        settings = {
            "preset": preset,
            "seed": test_set.seed,
            "faces": len(test_set.faces),
            "identities": len({face.identity for face in test_set.faces}),
            "size": size,
            "degradation_size": test_set.degradation_size,
            "set_sha256": checksum(folder / "set.json"),
            "methods": methods,
            "teacher_sha256": weights_checksum(options.teacher) if options.teacher else None,
            "baselines": baselines,
            "official": options.official,
            "versions": {"codeprior": __version__}
            | {name: distribution(name) for name in ("torch", "numpy", "pillow", "opencv-python-headless")},
        }
        if not (finished := _finished(folder, settings, measures, pictures=options.pictures)):
            pictures = folder / "pictures" if options.pictures else None
            # with the set's drawn values in every line's stamp, this is what a face's figures depend on
            key = {name: settings[name] for name in ("preset", "size", "degradation_size", "official", "versions")}
            key |= {"columns": {measure.name: measure.record.as_dict() for measure in measures}}
            with metrics.Journal(folder / "journal.jsonl", key=key) as journal:
                weights = {name: told["sha256"] for name, told in methods.items()}
                results = evaluate(
                    options.faces, test_set, restorers, measures=measures, size=size, batch=options.batch,
                    teacher=teacher, pictures=pictures, done=Done(journal, test_set.stamps(), weights),
                )  # fmt: skip
            if not results.values:
                raise ValueError(f"no face of {options.faces} could be read.")
            results.truths = len(test_set.faces) if options.official else None
            results.settings |= settings | {"seconds": round(time.monotonic() - began, 1)}
            metrics.write_results(folder, results, baselines=baselines)
            metrics.write_report(
                folder, results, partial(_shown, options.faces, test_set, restorers, size),
                title=f"{preset}: {len(test_set.faces)} faces, {size} px", column=measures[0].name,
                baselines=baselines, count=options.report_count,
            )  # fmt: skip
            if pictures is not None:
                _write_pairs(pictures / "pairs.csv", test_set)
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        print(f"\n{preset}, {len(test_set.faces)} faces, {size} px{', measured before' if finished else ''}\n")
        print((folder / "results.md").read_text(encoding="utf-8"))
        for name, codes in found["settings"].get("codes", {}).items():
            print(f"codes of {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in codes.items()))
        left_out |= bool(found["missing"] or test_set.unreadable)
        for file, reason in test_set.unreadable.items():
            print(f"evaluate: {options.faces}/{file}: {reason}", file=sys.stderr)
    return 3 if left_out else 0


def _finished(folder: Path, settings: Mapping[str, Any], measures: Sequence[Measure], *, pictures: bool) -> bool:
    """Says whether the folder holds these results already."""
    if pictures and not (folder / "pictures" / "pairs.csv").is_file():
        return False
    try:
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        same = all(found["settings"].get(name) == value for name, value in settings.items())
        records = {name: {key: column[key] for key in column if key not in ("unit", "better")}
                   for name, column in found["measures"].items()}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return False
    whole = (folder / "report.html").is_file() and (folder / "results.md").is_file()
    return same and whole and records == {measure.name: measure.record.as_dict() for measure in measures}


def _shown(
    faces: Path, test_set: TestSet, restorers: Mapping[str, Restore], size: int, method: str, name: str
) -> dict[str, Image]:
    """Gives one face again, for the report: input, every method, truth."""
    row = next(row for row, face in enumerate(test_set.faces) if face.name == name)
    one = replace(test_set, faces=[test_set.faces[row]], drawn=test_set.drawn[[row]])
    pairs = next(one.batches(faces, size=size))
    with torch.inference_mode():
        restored = {label: restore(pairs.degraded) for label, restore in restorers.items()}
    return {"input": pairs.degraded, **restored, "truth": pairs.clean}


def _keep(folder: Path, names: Sequence[str], images: Mapping[str, Image]) -> None:
    for label, batch in images.items():
        for name, image in zip(names, batch, strict=True):
            path = folder / label.replace("/", "_") / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, sheets.levels(image), overwrite=True)


def _write_pairs(path: Path, test_set: TestSet) -> None:
    """Writes verification pairs of the set, for `codeprior verify`."""
    pairs = metrics.identity_pairs(
        {face.name: face.identity for face in test_set.faces}, torch.Generator().manual_seed(test_set.seed)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["first", "second", "same"])
        writer.writerows([pair.first, pair.second, int(pair.same)] for pair in pairs)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate", description="Measures restorers on degraded faces.")
    parser.add_argument("--faces", required=True, type=Path, help="folder of clean aligned faces")
    parser.add_argument("--split", help="only this split of the folder's index.csv")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--method", action="append", default=[], metavar="NAME=[RECIPE:]WEIGHTS", help="a restorer")
    parser.add_argument("--match-colour", action="store_true", help="each method also with its input's coarse colours")
    parser.add_argument("--preset", action="append", help="degradation; repeatable (daefr)")
    parser.add_argument("--seed", type=int, default=0, help="of the degradations (0)")
    parser.add_argument("--set", type=Path, help="a set.json to use instead of building one")
    parser.add_argument("--limit", type=int, help="at most so many faces, spread evenly")
    parser.add_argument("--size", type=int, help="pixels; the restorers' own where nothing is given")
    parser.add_argument("--batch", type=int, default=16, help="faces at once (16)")
    parser.add_argument("--baseline", action="append", help="what methods are compared with (input, first method)")
    parser.add_argument(
        "--columns", metavar="A,B", help=f"of {', '.join(metrics.column_names())}; all that can be made"
    )
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="downloaded weights: VGG-16, ArcFace")
    parser.add_argument("--official", action="store_true", help="the reference's quirks, to compare with its figures")
    parser.add_argument("--pictures", action="store_true", help="keep the pictures, and pairs.csv for codeprior verify")
    parser.add_argument("--report-count", type=int, default=3, help="best and worst faces of each method (3)")
    parser.add_argument("--teacher", type=Path, help="weights of the clean VQGAN: counts right codes too")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
