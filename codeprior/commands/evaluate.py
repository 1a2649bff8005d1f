"""`codeprior evaluate RESTORED… --truth CLEAN`: folders of pictures measured, compared and reported."""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeprior.metrics.folders import Folders, Measured
    from codeprior.metrics.results import Results
    from codeprior.shapes import Image

HELP = "Measure folders of restored pictures against clean ones: table, CSV, intervals, comparison, report."
_LEFT_OUT, _USAGE = 3, 2


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
    except (OSError, ValueError, ImportError) as error:
        print(f"codeprior evaluate: {error}", file=sys.stderr)
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
    from codeprior.metrics.columns import columns, downloaded
    from codeprior.metrics.folders import measure_folders, pair_folders
    from codeprior.metrics.inception import FIDInception
    from codeprior.metrics.journal import Journal

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
        print(f"codeprior evaluate: the column {name} is left out: {reason}", file=sys.stderr)
    network = None
    if arguments.reference_stats or arguments.kid:
        network = FIDInception(downloaded("fid", arguments.weights))
    folders = pair_folders(methods, arguments.truth, pattern=arguments.pattern)
    if arguments.reference_stats:
        _check_counts(folders, force=arguments.force)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "journal.jsonl"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    settings = _settings(arguments, methods, folders)
    records = [measure.record for measure in measures] + ([network.record] if network else [])
    key = {
        "columns": [measure.name for measure in measures],
        "records": [record.as_dict() for record in records],
        "versions": settings["versions"],
    }
    with Journal(path, key=key) as journal, _progress(arguments, len(folders.names)) as bar:
        measured = measure_folders(
            folders, measures, journal=journal, batch=arguments.batch, set_network=network,
            groups=_groups(arguments.groups), advance=bar.update,
        )  # fmt: skip
        results = measured.results
        if network is not None:
            _add_sets(arguments, network, folders, measured)
    results.settings |= settings
    results.truths = len(folders.names) if arguments.official else None
    _tell(arguments, results, folders, baseline=baseline)
    return results


def _check_counts(folders: "Folders", *, force: bool) -> None:
    """Refuses FID before hours of measuring, rather than after them."""
    from codeprior.metrics.frechet import FEWEST

    for method, pictures in folders.methods.items():
        if len(pictures) < FEWEST and not force:
            raise ValueError(
                f"FID of {method}: expected at least {FEWEST} pictures, got {len(pictures)}; on fewer it is biased and "
                "says little. Use --kid, or --force and state the count."
            )


def _settings(arguments: argparse.Namespace, methods: dict[str, Path], folders: "Folders") -> dict[str, Any]:
    from codeprior import __version__
    from codeprior.metrics.provenance import distribution

    return {
        "methods": {name: folder.name for name, folder in methods.items()},
        "truth": arguments.truth.name if arguments.truth else None,
        "pictures": len(folders.names),
        "pattern": arguments.pattern,
        "official": arguments.official,
        "versions": {"codeprior": __version__} | {name: distribution(name) for name in ("torch", "numpy", "pillow")},
    }


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


def _add_sets(arguments: argparse.Namespace, network: Any, folders: "Folders", measured: "Measured") -> None:
    """Adds FID and KID; a set that is too small is told, and has no figure."""
    from dataclasses import replace

    import torch

    from codeprior.metrics.frechet import fid, kid, read_statistics
    from codeprior.metrics.pictures import as_image
    from codeprior.metrics.provenance import checksum
    from codeprior.metrics.results import SetFigure
    from codeprior.photos.files import read

    results = measured.results
    if arguments.reference_stats:
        reference = read_statistics(arguments.reference_stats)
        note = f"reference {arguments.reference_stats.name}, sha256 {checksum(arguments.reference_stats)[:12]}…"
        results.set_records["FID"] = replace(network.record, note=note)
        for method, features in measured.features.items():
            value = fid(features, reference, force=arguments.force)
            results.sets.setdefault(method, {})["FID"] = SetFigure(value, len(features))
    if arguments.kid:
        assert folders.truth is not None
        with torch.inference_mode():
            truth = torch.cat([network(as_image(read(path).pixels)) for path in folders.truth.values()])
        results.set_records["KID"] = replace(network.record, note="against the clean pictures")
        for method, features in measured.features.items():
            results.sets.setdefault(method, {})["KID"] = SetFigure(kid(features, truth), len(features))


def _tell(arguments: argparse.Namespace, results: "Results", folders: "Folders", *, baseline: str) -> None:
    from codeprior.metrics.report import write_report
    from codeprior.metrics.tables import results_markdown, write_results

    compared = [baseline] if baseline in results.values else []
    write_results(arguments.out, results, baselines=compared)
    shown = [measure.name for measure in results.measures if any(
        measure.name in row for rows in results.values.values() for row in rows.values()
    )]  # fmt: skip
    if shown:
        write_report(
            arguments.out, results, lambda method, name: _pictures(folders, method, name),
            title=f"{', '.join(folders.methods)}: {len(folders.names)} pictures",
            column=arguments.report_by or shown[0], baselines=compared, count=arguments.report_count,
        )  # fmt: skip
    if not arguments.quiet:
        print(results_markdown(results, baselines=compared))
        print(json.dumps({"out": str(arguments.out), "settings": results.settings}, ensure_ascii=False))
    for method, gone in results.missing.items():
        for name, reason in gone.items():
            print(f"codeprior evaluate: {method}: {name}: {reason}", file=sys.stderr)


def _pictures(folders: "Folders", method: str, name: str) -> "dict[str, Image]":
    from codeprior.metrics.pictures import as_image
    from codeprior.photos.files import read

    first = next(iter(folders.methods))
    paths = {label: folders.methods[label].get(name) for label in dict.fromkeys([first, method])}
    paths |= {"truth": folders.truth.get(name)} if folders.truth else {}
    return {label: as_image(read(path).pixels) for label, path in paths.items() if path is not None}
