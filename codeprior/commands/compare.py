"""`codeprior compare`: restorers of any family on degraded faces, measured alike and compared.

    codeprior compare --faces FOLDER --split test --out OUT \
        --method "CodeFormer=codeformer.safetensors" --method "DAEFR=daefr.safetensors"

    codeprior compare --out OUT --teacher vqgan.safetensors \
        --test "portraits=portraits/index.csv?split=test" \
        --test "London=faces/index.csv?split=test&source=webmorph-london" \
        --preset clean --preset lcqs-mild --preset lcqs-moderate --preset lcqs-severe --preset daefr \
        --method "DAEFR=daefr.safetensors" --method "DAEFR, auto=daefr.safetensors?fidelity=auto"

Each `--preset` gives a folder in OUT (in OUT/TEST where tests are named) with the set (`set.json`: faces, checksums,
drawn values), one row per image (`scores.csv`), summaries with provenance (`results.json`), tables (`results.md`) and
a page with the best and worst faces (`report.html`); `table.md` has all presets, `worst/` the faces that lost identity.
What is measured already, for the same faces, draws, weights and columns, is not measured again (`journal.jsonl`), so a
method that is added later costs only itself. Columns whose weights are not on this machine are left out, and named.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codeprior.commands import _measuring
from codeprior.commands._outputs import check_outputs
from codeprior.commands._printing import say, say_lines

if TYPE_CHECKING:
    from codeprior.evaluation import TestSet
    from codeprior.evaluation.methods import Method
    from codeprior.metrics import Measure

HELP = "Degrade clean faces, restore them with any trained models, and compare the results: tables and reports."
_NAME = "codeprior compare"
_RESULTS = ("table.md", "verification.json", "journal.jsonl")
_RESULTS_OF_ONE = ("set.json", "scores.csv", "results.json", "results.md", "report.html", "report.md")


class Test(NamedTuple):
    """Where the faces of one test are.

    Attributes:
        name: Of its folder in the results; empty for the results' own folder.
        folder: Of the clean faces.
        index: Their CSV, or None.
        split: Of the index, or None.
        sources: Of the index.
        classes: Of the index.
    """

    name: str
    folder: Path
    index: Path | None = None
    split: str | None = None
    sources: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("--faces", type=Path, help="folder of clean aligned faces")
    parser.add_argument("--index", type=Path, metavar="CSV", help="their index: id, split, file, and more")
    parser.add_argument("--split", help="only this split of the index, or of the folder's index.csv")
    parser.add_argument("--source", action="append", default=[], help="only this source of the index; repeatable")
    parser.add_argument("--class", action="append", default=[], dest="face_class", help="only this class; repeatable")
    parser.add_argument(
        "--test", action="append", metavar="NAME=CSV?split=S&source=S", help="a test by name; repeatable, instead"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument(
        "--method", action="append", default=[], metavar="NAME=[FAMILY:]WEIGHTS[?fidelity=auto]", help="a restorer"
    )
    parser.add_argument("--match-colour", action="store_true", help="each method also with its input's coarse colours")
    parser.add_argument("--preset", action="append", help="degradation, or clean; repeatable (daefr)")
    parser.add_argument("--seed", type=int, default=0, help="of the degradations (0)")
    parser.add_argument("--set", type=Path, help="a set.json to use instead of building one")
    parser.add_argument("--limit", type=int, help="at most so many faces, spread evenly")
    parser.add_argument(
        "--size", type=int, help="pixels a side of what is measured; answers of another size are resized"
    )
    parser.add_argument("--batch", type=int, default=16, help="faces at once (16)")
    parser.add_argument("--baseline", action="append", help="what methods are compared with (input, first method)")
    parser.add_argument(
        "--by", action="append", default=[], metavar="COLUMN",
        help="a table by this column of the index, such as age; tone is measured on the cheeks; repeatable",
    )  # fmt: skip
    parser.add_argument("--columns", metavar="A,B", help=_measuring.COLUMNS)
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="downloaded weights: VGG-16, ArcFace")
    parser.add_argument("--official", action="store_true", help="the reference's quirks, to compare with its figures")
    parser.add_argument("--pictures", action="store_true", help="keep the pictures, and pairs.csv for codeprior verify")
    parser.add_argument("--report-count", type=int, default=3, help="best and worst faces of each method (3)")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="keep degraded faces there, and use them again")
    parser.add_argument("--overwrite", action="store_true", help="replace files in --out that this command never wrote")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run in --out has measured")
    parser.add_argument(
        "--teacher", type=Path, help="weights of the clean VQGAN: a row of reconstructions, and right codes counted"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measures what was asked for.

    Args:
        arguments: As parsed.

    Returns:
        0 all measured, 3 some faces were left out, 2 nothing could be measured.
    """
    return _measuring.guarded(_NAME, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from codeprior import evaluation
    from codeprior.evaluation.methods import INPUT

    measures = _measuring.asked_columns(_NAME, options, official=options.official)
    methods, size = _measuring.asked_methods(
        options.method, size=options.size, batch=options.batch, colour=options.match_colour
    )
    names = [method.name for method in methods]
    # the input, and where several restore, the first of them too
    baselines = options.baseline or [INPUT, *names[: len(names) > 1]]
    if unknown := set(baselines) - {INPUT, *names}:
        raise ValueError(f"--baseline: expected one of input, {', '.join(names)}; got {', '.join(sorted(unknown))}.")
    teacher, sha256 = None, None
    if options.teacher:
        from codeprior.weights import load as load_module

        teacher, sha256 = load_module(options.teacher).eval(), evaluation.weights_checksum(options.teacher)
        methods = [evaluation.teacher_method(teacher, sha256=sha256, batch=options.batch), *methods]
    left_out = False
    for test in _tests(options):
        left_out |= _measure(test, options, methods, measures, size=size, baselines=baselines, teacher=teacher,
                             teacher_sha256=sha256)  # fmt: skip
    return _measuring.LEFT_OUT if left_out else 0


def _measure(
    test: Test, options: argparse.Namespace, methods: "Sequence[Method]", measures: "Sequence[Measure]", *,
    size: int, baselines: Sequence[str], teacher: Any, teacher_sha256: str | None,
) -> bool:  # fmt: skip
    from tqdm import tqdm

    from codeprior import evaluation

    out, sets = options.out / test.name, _sets(test, options)
    check_outputs(out, _RESULTS, marker="journal.jsonl", keys=("columns",), overwrite=options.overwrite)
    for one in sets:
        # the first file that is written of a preset
        check_outputs(
            out / one.preset, _RESULTS_OF_ONE, marker="set.json", keys=("preset", "faces"), overwrite=options.overwrite
        )
    if options.fresh:
        (out / "journal.jsonl").unlink(missing_ok=True)
    with tqdm(total=len(sets[0].faces), unit="face", desc=test.name or "compare", disable=None) as bar:
        plan = evaluation.Plan(
            methods=methods, measures=measures, size=size, batch=options.batch, baselines=baselines,
            official=options.official, teacher=teacher, teacher_sha256=teacher_sha256, pictures=options.pictures,
            cache=evaluation.DegradedCache(options.cache) if options.cache else None,
            groups=_groups(test, sets[0], options.by),
            report_count=options.report_count, advance=bar.update,
        )  # fmt: skip
        found = evaluation.evaluate(test.folder, sets, plan, out=out)
    for one in sets:
        say_lines(f"\n{f'{test.name}, ' if test.name else ''}{one.preset}, {len(one.faces)} faces, {size} px\n")
        say_lines((out / one.preset / "results.md").read_text(encoding="utf-8"))
        for name, codes in found.codes.get(one.preset, {}).items():
            say(f"codes of {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in codes.items()))
    for file, reason in {**sets[0].unreadable, **found.gone}.items():
        say(f"{_NAME}: {test.folder}/{file}: {reason}", error=True)
    return bool(sets[0].unreadable or found.gone)


def _groups(test: Test, one: "TestSet", columns: Sequence[str]) -> dict[str, dict[str, str]]:
    from codeprior.evaluation import index_groups, tone_groups
    from codeprior.evaluation.groups import TONE

    return {
        column: tone_groups(test.folder, one.faces) if column == TONE
        else index_groups(test.index or test.folder / "index.csv", one.faces, column)
        for column in columns
    }  # fmt: skip


def _tests(options: argparse.Namespace) -> list[Test]:
    if bool(options.test) == bool(options.faces or options.index):
        raise ValueError("expected --faces FOLDER, --index INDEX.csv, or one --test NAME=INDEX.csv or more.")
    if not options.test:
        folder = options.faces or options.index.parent
        return [Test("", folder, options.index, options.split, tuple(options.source), tuple(options.face_class))]
    found = []
    for word in options.test:
        name, _, target = word.partition("=")
        path, _, query = target.partition("?")
        parts = [part.partition("=")[::2] for part in query.split("&") if part]
        if not (name and path) or {key for key, _ in parts} - {"split", "source", "class"}:
            raise ValueError(f'expected --test "NAME=INDEX.csv?split=S&source=S&class=C", got {word!r}.')
        given = {key: tuple(value for other, value in parts if other == key) for key in ("split", "source", "class")}
        split = given["split"][0] if given["split"] else None
        found.append(Test(name, Path(path).parent, Path(path), split, given["source"], given["class"]))
    return found


def _sets(test: Test, options: argparse.Namespace) -> "list[TestSet]":
    """Gives the sets that are asked for: the one of the file, or one per preset."""
    from codeprior import evaluation

    presets = options.preset or ["daefr"]
    if options.set:
        one = evaluation.TestSet.load(options.set)
        if presets != [one.preset]:
            raise ValueError(f"{options.set} is of the preset {one.preset}; say --preset {one.preset}.")
        return [one]
    chosen = evaluation.chosen_faces(
        test.folder, index=test.index, split=test.split, sources=test.sources, classes=test.classes, limit=options.limit
    )
    return [
        evaluation.drawn_set(chosen.faces, preset=preset, seed=options.seed, unreadable=chosen.unreadable)
        for preset in dict.fromkeys(presets)
    ]
