"""`codeprior evaluate RESTORED… --truth CLEAN`: folders of pictures measured, compared and reported."""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeprior.commands._outputs import check_outputs
from codeprior.commands._printing import say, say_lines

if TYPE_CHECKING:
    from codeprior.metrics.results import Results

HELP = "Measure folders of restored pictures against clean ones: table, CSV, intervals, comparison, report."
_LEFT_OUT, _USAGE = 3, 2
_RESULTS = ("scores.csv", "results.json", "results.md", "report.html", "report.md")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("restored", nargs="+", metavar="[NAME=]FOLDER", help="pictures of one method; several compare")
    parser.add_argument("--truth", type=Path, metavar="FOLDER", help="clean pictures of the same names")
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="folder of the results (evaluation)")
    parser.add_argument("--columns", metavar="A,B", help="such as psnr,ssim,identity; all that can be made by default")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="downloaded weights: VGG-16, ArcFace, Inception")
    parser.add_argument("--reference-stats", type=Path, metavar="FILE", help="FID: statistics of the reference set")
    parser.add_argument("--kid", action="store_true", help="KID against the truth; for small sets")
    parser.add_argument("--force", action="store_true", help="FID on fewer than 2,000 pictures")
    parser.add_argument("--official", action="store_true", help="the reference's quirks, to compare with its figures")
    parser.add_argument("--pattern", default="{name}", help="names of restored pictures, such as {name}_00 ({name})")
    parser.add_argument("--baseline", metavar="NAME", help="method that the others are compared with (the first)")
    parser.add_argument("--groups", type=Path, metavar="CSV", help="columns image, group: what intervals resample")
    parser.add_argument("--report-by", metavar="COLUMN", help="heading that ranks the report's pictures (the first)")
    parser.add_argument("--report-count", type=int, default=3, help="best and worst pictures of each method (3)")
    parser.add_argument("--batch", type=int, default=8, help="pictures at once (8)")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run in --out has measured")
    parser.add_argument("--overwrite", action="store_true", help="replace files in --out that this command never wrote")
    parser.add_argument("--quiet", action="store_true", help="no progress and no table; errors remain")


def run(arguments: argparse.Namespace) -> int:
    """Measures what was asked for.

    Args:
        arguments: As parsed.

    Returns:
        0 all measured, 3 some pictures were left out, 2 a call that makes no sense.
    """
    try:
        results = _evaluate(arguments)
    except (OSError, ValueError, ImportError, csv.Error, RecursionError) as error:
        say(f"codeprior evaluate: {error}", error=True)
        return _USAGE
    return _LEFT_OUT if any(results.missing.values()) else 0


def named_folders(words: Sequence[str]) -> dict[str, Path]:
    """Gives folders by the names they go under.

    Args:
        words: `NAME=FOLDER`, or a folder, which then goes under its own name.

    Raises:
        ValueError: Two have one name, or one has none.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        # a path may hold an equals sign where it is a folder as it stands
        if not equals or Path(word).is_dir():
            name, folder = Path(word).resolve().name, word
        if not name or name in found:
            raise ValueError(f"expected every method under a name of its own, got {word!r}; give NAME=FOLDER.")
        found[name] = Path(folder)
    return found


def _evaluate(arguments: argparse.Namespace) -> "Results":
    from codeprior.evaluation.compare import FolderPlan, compare_folders
    from codeprior.evaluation.folders import pair_folders
    from codeprior.metrics.columns import columns, downloaded
    from codeprior.metrics.inception import FIDInception

    if arguments.batch < 1 or arguments.report_count < 0:
        raise ValueError("--batch must be at least 1 and --report-count at least 0.")
    methods = named_folders(arguments.restored)
    baseline = arguments.baseline or next(iter(methods))
    if baseline not in methods:
        raise ValueError(f"--baseline: expected one of {', '.join(methods)}, got {baseline!r}.")
    if arguments.official and arguments.truth is None:
        raise ValueError("--official: the reference divides by the clean pictures; give --truth.")
    if arguments.kid and arguments.truth is None:
        raise ValueError("--kid: compares with the clean pictures; give --truth.")
    asked = arguments.columns.split(",") if arguments.columns else (None if arguments.truth else ["niqe"])
    measures, left_out = columns(asked, weights=arguments.weights, official=arguments.official)
    for name, reason in left_out.items():
        say(f"codeprior evaluate: the column {name} is left out: {reason}", error=True)
    network = None
    if arguments.reference_stats or arguments.kid:
        network = FIDInception(downloaded("fid", arguments.weights))
    folders = pair_folders(methods, arguments.truth, pattern=arguments.pattern)
    check_outputs(
        arguments.out, _RESULTS, marker="results.json", keys=("settings", "measures"), overwrite=arguments.overwrite
    )
    with _progress(arguments, len(folders.names)) as bar:
        plan = FolderPlan(
            measures=measures, baseline=baseline, truth=arguments.truth, pattern=arguments.pattern, network=network,
            reference=arguments.reference_stats, with_kid=arguments.kid, force=arguments.force,
            official=arguments.official, groups=_groups(arguments.groups), batch=arguments.batch,
            report_by=arguments.report_by, report_count=arguments.report_count, fresh=arguments.fresh,
            advance=bar.update,
        )  # fmt: skip
        results, baselines = compare_folders(methods, plan, out=arguments.out, folders=folders)
    _tell(arguments, results, baselines)
    return results


def _groups(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"image", "group"} <= rows[0].keys():
        raise ValueError(f"--groups: expected the columns image and group in {path}.")
    return {row["image"]: row["group"] for row in rows}


def _progress(arguments: argparse.Namespace, total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="picture", disable=True if arguments.quiet else None, file=sys.stderr)


def _tell(arguments: argparse.Namespace, results: "Results", baselines: list[str]) -> None:
    from codeprior.metrics.tables import results_markdown

    if not arguments.quiet:
        say_lines(results_markdown(results, baselines=baselines))
        say(json.dumps({"out": str(arguments.out), "settings": results.settings}, ensure_ascii=False))
    for method, gone in results.missing.items():
        for name, reason in gone.items():
            say(f"codeprior evaluate: {method}: {name}: {reason}", error=True)
