"""`codeprior verify PAIRS.csv FOLDER…`: does a face recogniser still distinguish people in each folder."""

import argparse
import csv
import io
import json
import math
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeprior import files
from codeprior.commands._outputs import check_outputs
from codeprior.commands._printing import say, say_lines
from codeprior.extras import needed

if TYPE_CHECKING:
    from codeprior.metrics.pictures import FeatureRows
    from codeprior.metrics.verification import FacePair, Verification

HELP = "Verify faces before and after restoration: accuracy, ROC and plot, on pairs from a CSV."
_LEFT_OUT, _USAGE = 3, 2
_RESULTS = ("distances.csv", "verification.json", "verification.md", "roc.png")
_RATE = 0.01
"""Rates of false accepts at which true accepts are reported."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("pairs", type=Path, metavar="PAIRS.csv", help="columns first, second, same (1 or 0)")
    parser.add_argument("folders", nargs="+", metavar="[NAME=]FOLDER", help="aligned faces, the same names in each")
    parser.add_argument("--gallery", type=Path, metavar="FOLDER", help="take the first of each pair from here instead")
    parser.add_argument("--network", choices=("dlib", "arcface"), default="dlib", help="embedding (dlib)")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="downloaded weights: arcface_resnet18.pth")
    parser.add_argument("--official", action="store_true", help="ArcFace with the reference's swapped grey weights")
    parser.add_argument("--pattern", default="{name}", help="names of the pictures, such as {name}_00 ({name})")
    parser.add_argument("--folds", type=int, default=10, help="parts for the accuracy (10)")
    parser.add_argument("--batch", type=int, default=16, help="pictures at once (16)")
    parser.add_argument("--out", type=Path, default=Path("verification"), help="folder of the results (verification)")
    parser.add_argument("--overwrite", action="store_true", help="replace files in --out that this command never wrote")
    parser.add_argument("--quiet", action="store_true", help="no progress and no table; errors remain")


def run(arguments: argparse.Namespace) -> int:
    """Verifies what was asked for.

    Args:
        arguments: As parsed.

    Returns:
        0 all pairs judged, 3 some were left out, 2 a call that makes no sense.
    """
    try:
        return _LEFT_OUT if _verify(arguments) else 0
    except (OSError, ValueError, ImportError, csv.Error, RecursionError) as error:
        say(f"codeprior verify: {error}", error=True)
        return _USAGE


def _verify(arguments: argparse.Namespace) -> dict[str, str]:
    """Judges every folder on the pairs that all of them have; gives the pictures left out, and why."""
    from codeprior import __version__
    from codeprior.commands.evaluate import named_folders
    from codeprior.metrics.identity import identity_angle
    from codeprior.metrics.provenance import checksum, distribution
    from codeprior.metrics.verification import read_pairs, verify

    check_outputs(
        arguments.out, _RESULTS, marker="verification.json", keys=("settings", "figures"), overwrite=arguments.overwrite
    )
    pairs, folders = read_pairs(arguments.pairs), named_folders(arguments.folders)
    network, distance = _network(arguments)
    firsts, seconds = (set(names) for names in zip(*(pair[:2] for pair in pairs), strict=True))
    gone: dict[str, str] = {}
    rows: dict[str, FeatureRows] = {}
    gallery = None
    if arguments.gallery:
        gallery = _embedded(arguments, network, arguments.gallery, names=firsts, label="gallery")
        gone |= {f"gallery: {name}": reason for name, reason in gallery.gone.items()}
    for label, folder in folders.items():
        wanted = seconds if gallery else firsts | seconds
        rows[label] = _embedded(arguments, network, folder, names=wanted, label=label)
        gone |= {f"{label}: {name}": reason for name, reason in rows[label].gone.items()}
    left = [
        pair for pair in pairs
        if all(pair.second in row.features and pair.first in (gallery or row).features for row in rows.values())
    ]  # fmt: skip
    import torch

    distances: dict[str, list[float]] = {}
    for label, row in rows.items():
        first = torch.stack([(gallery or row).features[pair.first] for pair in left]) if left else torch.empty(0, 1)
        second = torch.stack([row.features[pair.second] for pair in left]) if left else torch.empty(0, 1)
        compared = (first - second).norm(dim=1) if distance == "length" else identity_angle(first, second)
        distances[label] = compared.tolist()
    same = [pair.same for pair in left]
    judged = {label: verify(values, same, folds=arguments.folds) for label, values in distances.items()}
    settings = {
        "pairs": {"file": arguments.pairs.name, "sha256": checksum(arguments.pairs), "count": len(pairs)},
        "judged": {"same": sum(same), "different": len(same) - sum(same)},
        "folders": {label: folder.name for label, folder in folders.items()},
        "gallery": arguments.gallery.name if arguments.gallery else None,
        "distance": distance,
        "folds": arguments.folds,
        "network": network.record.as_dict(),
        "versions": {"codeprior": __version__} | {name: distribution(name) for name in ("torch", "numpy", "pillow")},
    }
    _write(arguments, settings, judged, distances=distances, pairs=left, gone=gone)
    for name, reason in gone.items():
        say(f"codeprior verify: {name}: {reason}", error=True)
    return gone


def _network(arguments: argparse.Namespace) -> tuple[Any, str]:
    """Gives the embedding and how two of its results are compared, each as its authors do."""
    if arguments.network == "dlib":
        from codeprior.metrics.dlib_face import DlibFace

        return DlibFace(), "length"
    from codeprior.metrics.arcface import ArcFace
    from codeprior.metrics.columns import downloaded

    path = downloaded("arcface", arguments.weights)
    return ArcFace(path, mode="official" if arguments.official else "correct"), "angle"


def _embedded(
    arguments: argparse.Namespace, network: Any, folder: Path, *, names: set[str], label: str
) -> "FeatureRows":
    from tqdm import tqdm

    from codeprior.metrics.pictures import features_by_name

    with tqdm(
        total=len(names), unit="face", desc=label, disable=True if arguments.quiet else None, file=sys.stderr
    ) as bar:
        return features_by_name(
            folder, sorted(names), network, batch=arguments.batch, pattern=arguments.pattern, advance=bar.update
        )


def _write(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    judged: "dict[str, Verification]",
    *,
    distances: dict[str, list[float]],
    pairs: "list[FacePair]",
    gone: dict[str, str],
) -> None:
    from codeprior.metrics.results import cell

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["first", "second", "same", *map(cell, distances)])
    for place, pair in enumerate(pairs):
        figures_of = [repr(row[place]) for row in distances.values()]
        writer.writerow([cell(pair.first), cell(pair.second), int(pair.same), *figures_of])
    files.write(out / "distances.csv", lines.getvalue(), overwrite=True)
    figures = {label: _figures(found) for label, found in judged.items()}
    content = {"settings": settings, "figures": figures, "left_out": gone}
    files.write(out / "verification.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n", overwrite=True)
    table = _table(figures, settings)
    files.write(out / "verification.md", table, overwrite=True)
    try:
        _plot(out / "roc.png", judged)
    except ImportError as error:
        say(f"codeprior verify: {error}", error=True)
    if not arguments.quiet:
        say_lines(table)


def _figures(found: "Verification") -> dict[str, float]:
    import numpy as np

    accepted = float(found.true_accepts[found.false_accepts <= _RATE].max())
    return {
        "accuracy": found.accuracy,
        "standard_error": found.deviation / math.sqrt(found.folds),
        "area": found.area,
        "true_accepts_at_1_percent": accepted,
        "equal_error": found.equal_error,
        "threshold": float(np.float64(found.threshold)),
    }


def _table(figures: dict[str, dict[str, float]], settings: dict[str, Any]) -> str:
    heads = ["pictures", "accuracy ↑", "ROC area ↑", "true accepts at 1 % false ↑", "equal error ↓"]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * len(heads))} |"]
    for label, found in figures.items():
        cells = [
            label,
            f"{found['accuracy']:.4f} ± {found['standard_error']:.4f}",
            *(f"{found[name]:.4f}" for name in ("area", "true_accepts_at_1_percent", "equal_error")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    judged, record = settings["judged"], settings["network"]
    lines += [
        "",
        f"{judged['same']} same and {judged['different']} different pairs of {settings['pairs']['count']}, "
        f"{settings['folds']} folds, ± standard error over folds; {record['network']}, {record['weights']}, sha256 "
        f"{record['sha256'][:12]}…, {record['colours']}, by {settings['distance']}.",
        "",
    ]
    return "\n".join(lines)


def _plot(path: Path, judged: "dict[str, Verification]") -> None:
    backend = needed("matplotlib.backends.backend_agg", who="the plot roc.png")
    figure = needed("matplotlib.figure", who="the plot roc.png").Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for label, found in judged.items():
        axes.plot(found.false_accepts, found.true_accepts, drawstyle="steps-post", label=f"{label} ({found.area:.4f})")
    axes.set(xlabel="false accepts", ylabel="true accepts", xlim=(0, 1), ylim=(0, 1.01), title="ROC (area)")
    axes.legend(loc="lower right")
    encoded = BytesIO()
    backend.FigureCanvasAgg(figure).print_png(encoded)
    files.write(path, encoded.getvalue(), overwrite=True)
