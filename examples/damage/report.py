"""How wrong the estimator is on faces of people it has never seen, by what was done to them: a table and a plot.

`python -m codeprior.recipes.damage.report --out runs/damage --plot limit.png`

Takes the faces that `train` made of the test split. The limit is judged on faces whose truth is exact: those reduced so
much from their file that the file's own sharpness does not matter.
"""

import argparse
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from codeprior import files
from codeprior.estimators import DamageEstimator, load_estimator

from .faces import KINDS
from .train import Set, read

_CONSTANT = "always the median"


class Row(NamedTuple):
    """Errors of the faces of one kind.

    Attributes:
        kind: What was done to them.
        count: How many they are.
        exact: How many of them have an exact limit.
        blur: Median absolute error, pixels.
        reduction: Median factor by which it is wrong, as a share: 0.1 is a tenth.
        noise: Median absolute error, 8-bit levels.
        quality: Median absolute error.
        limit: Median factor by which it is wrong, as a share, where the truth is exact.
        inside: Share of the limits that lie between the outer quantiles, which stand for 0.8.
    """

    kind: str
    count: int
    exact: int
    blur: float
    reduction: float
    noise: float
    quality: float
    limit: float
    inside: float


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(prog="damage.report")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--weights", type=Path, help="an estimator; the library's own by default")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw estimated against true limits")
    parser.add_argument("--overwrite", action="store_true", help="replace a plot that exists")
    parsed = parser.parse_args(argv)
    try:
        made, estimator = read(parsed.out, "test"), load_estimator(parsed.weights)
        print(table(rows(made, estimator)))
        if parsed.plot:
            plot(parsed.plot, made, estimator, overwrite=parsed.overwrite)
    except (ValueError, OSError) as error:
        print(f"damage.report: {error}", file=sys.stderr)
        return 2
    return 0


@torch.no_grad()
def rows(made: Set, estimator: DamageEstimator) -> list[Row]:
    """Gives the errors by kind, of all faces, and of an estimator that always says the median.

    Args:
        made: Faces with their truth.
        estimator: The one that is judged.
    """
    answers, truth = estimator(made.rows.statistics), made.rows.truth
    whole = torch.ones(len(truth), dtype=torch.bool)
    kinds = {kind: made.kinds == number for number, kind in enumerate(KINDS)}
    some = {kind: which for kind, which in kinds.items() if bool(which.any())}
    constant = truth.median(0).values.expand(len(truth), 5)[..., None].expand(-1, -1, 3)
    return [
        *(_row(kind, answers, truth, which, made.trusted) for kind, which in some.items()),
        _row("all", answers, truth, whole, made.trusted),
        _row(_CONSTANT, constant, truth, whole, made.trusted),
    ]


def table(found: Sequence[Row]) -> str:
    """Gives the errors as a Markdown table.

    Args:
        found: What `rows` gave.
    """
    lines = [
        "| damage | faces | blur σ, pixels | reduction | noise σ, levels | JPEG quality | limit | exact | in range |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        inside = "" if row.kind == _CONSTANT else f"{row.inside:.0%}"
        limit = f"{row.limit:.1%}" if row.exact else ""
        lines.append(
            f"| {row.kind} | {row.count} | {row.blur:.2f} | {row.reduction:.0%} | {row.noise:.2f} | "
            f"{row.quality:.1f} | {limit} | {row.exact} | {inside} |"
        )
    return "\n".join(lines)


@torch.no_grad()
def plot(path: Path, made: Set, estimator: DamageEstimator, *, overwrite: bool = False) -> None:
    """Draws estimated against true limits, a point a face.

    Args:
        path: A PNG.
        made: Faces with their truth.
        estimator: The one that is judged.
        overwrite: Replace what has the name.

    Raises:
        FileExistsError: Something has the name and `overwrite` is off.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    estimated, true = (
        values[made.trusted].exp2() for values in (estimator(made.rows.statistics)[:, -1, 1], made.rows.truth[:, -1])
    )
    kinds = made.kinds[made.trusted]
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot([1 / 160, 0.5], [1 / 160, 0.5], color="black", linewidth=1)
    for number, kind in enumerate(KINDS):
        which = kinds == number
        marker = "osv^DP"[number % 6]
        axes.scatter(
            true[which], estimated[which].clamp_max(0.5), s=12, alpha=0.7, marker=marker, label=kind, linewidths=0
        )
    axes.set(
        xscale="log", yscale="log", xlabel="true limit, cycles per pixel", ylabel="estimated limit, cycles per pixel"
    )
    ticks = [1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"1/{round(1 / tick)}" for tick in ticks])
        axis.set_ticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    encoded = BytesIO()
    FigureCanvasAgg(figure).print_png(encoded)
    files.write(path, encoded.getvalue(), overwrite=overwrite)


def _row(kind: str, answers: Tensor, truth: Tensor, which: Tensor, trusted: Tensor) -> Row:
    from codeprior.estimators.damage import from_coordinates

    middle, right = from_coordinates(answers[which, :, 1]), from_coordinates(truth[which])
    exact = trusted[which]

    def apart(name: str, chosen: Tensor) -> float:
        return float((getattr(middle, name) - getattr(right, name))[chosen].abs().median())

    def factor(name: str, chosen: Tensor) -> float:
        logs = getattr(middle, name).log() - getattr(right, name).log()
        return float(logs[chosen].abs().median().exp() - 1)

    every = torch.ones_like(exact)
    low, high = (from_coordinates(answers[which, :, end]).limit for end in (0, 2))
    inside = (right.limit >= low * 0.999) & (right.limit <= high * 1.001)
    return Row(
        kind, int(which.sum()), int(exact.sum()), apart("blur", every), factor("reduction", every),
        apart("noise", every), apart("quality", every), factor("limit", exact), float(inside[exact].float().mean()),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
