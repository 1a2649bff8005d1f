"""The table that a README shows: methods under growing damage, with standard errors, and who is better than whom.

`write_results` writes one condition in full; this puts all conditions of a test side by side, adds the share of faces
that became worse, and splits faces into groups, such as the sources that the index names.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from codeprior.evaluation.methods import INPUT, TEACHER
from codeprior.evaluation.validation import MARGIN
from codeprior.metrics.measures import Measure
from codeprior.metrics.results import Results
from codeprior.metrics.statistics import Comparison, Summary
from codeprior.metrics.tables import Table, notes
from codeprior.metrics.verification import FacePair, identity_pairs, verify

_PLACES = {"PSNR": 2, "LMD": 2, "colour": 2}
_OTHERS = "others"


class Verified(NamedTuple):
    """How well the restored faces of one method identify people.

    Attributes:
        accuracy: Mean over folds, [0, 1].
        error: Standard error over folds.
        area: Under the ROC, [0, 1].
        pairs: Pairs of one person; there are as many of different people.
    """

    accuracy: float
    error: float
    area: float
    pairs: int


def worse_share(results: Results, method: str, *, margin: float = MARGIN) -> float | None:
    """Gives the share of faces, [0, 1], whose PSNR a method lowers by more than the margin; None without PSNR.

    Args:
        results: With the method `input`.
        method: Which.
        margin: dB.
    """
    rows, before = results.values.get(method, {}), results.values.get(INPUT, {})
    lost = [before[name]["PSNR"] - row["PSNR"] for name, row in rows.items() if "PSNR" in row and name in before]
    # two infinite PSNRs are equal: nothing is lost
    return sum(value > margin for value in lost) / len(lost) if lost else None


def summary_tables(results: Mapping[str, Results], *, baselines: Sequence[str] = (INPUT,)) -> list[Table]:
    """Gives the tables of a test: all conditions and methods, then every method against each baseline.

    Args:
        results: By condition.
        baselines: Methods that the others are compared with, face by face.
    """
    measures = next(iter(results.values())).measures
    heading = ["damage", "method", *(_heading(measure) for measure in measures), "worse by 1 dB ↓"]
    rows: list[list[str]] = []
    for condition, found in results.items():
        summaries = found.summaries()
        for method, columns in summaries.items():
            if method == TEACHER and condition != next(iter(results)):
                continue  # reconstructs the clean face: the same under every damage
            share = None if method in (INPUT, TEACHER) else worse_share(found, method)
            cells = [_mean(columns.get(measure.name), measure) for measure in measures]
            label = "none" if method == TEACHER else condition
            rows.append([label, method, *cells, "–" if share is None else f"{share:.1%}"])
    counts = {len(found.images()) for found in results.values()}
    made = [Table(f"{'/'.join(map(str, sorted(counts)))} faces; mean ± standard error.", heading, rows)]
    for baseline in baselines:
        rows = []
        for condition, found in results.items():
            if baseline in found.values:
                for method, columns in found.comparisons(baseline).items():
                    if method != TEACHER:
                        cells = [_difference(columns.get(measure.name), measure) for measure in measures]
                        rows.append([condition, method, *cells])
        if rows:
            caption = f"Against {baseline}, face by face: mean difference [95 % bootstrap interval], share of wins."
            made.append(Table(caption, ["damage", "method", *(_heading(measure) for measure in measures)], rows))
    return made


def source_table(results: Mapping[str, Results], sources: Mapping[str, str], *, fewest: int = 10) -> Table | None:
    """Gives the figures by source of the pictures; None where the faces have no or one source.

    A source says where pictures come from, such as who took them; it says nothing about the people in them.

    Args:
        results: By condition.
        sources: Face to source.
        fewest: Sources of fewer faces are shown together.
    """
    if "" in sources.values():
        return None
    caption = "By source of the pictures, as the index names it; mean ± standard error."
    return group_table(results, dict(sorted(sources.items(), key=lambda item: item[1])), what="source", caption=caption,
                       fewest=fewest)  # fmt: skip


def group_table(
    results: Mapping[str, Results], groups: Mapping[str, str], *, what: str, caption: str, fewest: int = 10
) -> Table | None:
    """Gives the figures of each group of faces; None where there are fewer than two.

    Args:
        results: By condition.
        groups: Face to group; their order is that of the table.
        what: What the groups are, for the heading.
        caption: Above the table.
        fewest: Groups of fewer faces are shown together, as the last.
    """
    counts = Counter(groups.values())
    small = [group for group, count in counts.items() if count < fewest]
    label = {group: _OTHERS if group in small and len(small) > 1 else group for group in counts}
    names = list(dict.fromkeys(sorted(label.values(), key=lambda name: name == _OTHERS)))
    if len(names) < 2:
        return None
    measures = next(iter(results.values())).measures
    rows = []
    for name in names:
        faces = {face for face, group in groups.items() if label[group] == name}
        for condition, found in results.items():
            part = subset(found, faces)
            for method, columns in part.summaries().items():
                if method != TEACHER:
                    cells = [_mean(columns.get(measure.name), measure) for measure in measures]
                    rows.append([f"{name} ({len(faces)})", condition, method, *cells])
    heading = [f"{what} (faces)", "damage", "method", *(_heading(measure) for measure in measures)]
    return Table(caption, heading, rows)


def subset(results: Results, faces: set[str]) -> Results:
    """Gives the results of some of the faces.

    Args:
        results: Of more faces.
        faces: Which remain.
    """
    values = {
        method: {name: row for name, row in rows.items() if name in faces} for method, rows in results.values.items()
    }
    return Results(measures=results.measures, groups=results.groups, values=values)


def verification(
    embeddings: Mapping[str, Mapping[str, torch.Tensor]], clean: Mapping[str, torch.Tensor],
    identities: Mapping[str, str], *, seed: int = 0,
) -> dict[str, Verified]:  # fmt: skip
    """Gives how well restored faces identify people: the first picture of each pair is clean, the second restored.

    Args:
        embeddings: Method and face to identity embedding.
        clean: Face to the embedding of the clean picture.
        identities: Face to person.
        seed: Of the pairs of different people.

    Returns:
        By method; empty where fewer than two people have two pictures.
    """
    known = {name: person for name, person in identities.items() if name in clean}
    pairs = identity_pairs(known, torch.Generator().manual_seed(seed))
    found = {}
    for method, rows in embeddings.items():
        left = [pair for pair in pairs if pair.second in rows]
        same = sum(pair.same for pair in left)
        folds = min(10, same, len(left) - same)
        if folds < 2:
            continue
        judged = verify([_distance(clean, rows, pair) for pair in left], [pair.same for pair in left], folds=folds)
        found[method] = Verified(judged.accuracy, judged.deviation / math.sqrt(folds), judged.area, same)
    return found


def verification_table(found: Mapping[str, Mapping[str, Verified]]) -> Table | None:
    """Gives the table of verifications; None where nothing could be judged.

    Args:
        found: Condition and method to what `verification` gave.
    """
    rows = [
        [condition, method, f"{one.accuracy:.4f} ± {one.error:.4f}", f"{one.area:.4f}", str(one.pairs)]
        for condition, methods in found.items()
        for method, one in methods.items()
    ]
    caption = "Verification: a clean picture and the method's picture of the same or of another person; ± over folds."
    heading = ["damage", "method", "accuracy ↑", "ROC area ↑", "pairs of one person"]
    return Table(caption, heading, rows) if rows else None


def summary_notes(results: Mapping[str, Results]) -> list[str]:
    """Gives a sentence for missing faces, and what made each column.

    Args:
        results: By condition.
    """
    return list(dict.fromkeys(note for found in results.values() for note in notes(found)))


def _distance(clean: Mapping[str, torch.Tensor], rows: Mapping[str, torch.Tensor], pair: FacePair) -> float:
    return float((clean[pair.first] - rows[pair.second]).norm())


def _heading(measure: Measure) -> str:
    unit = f" ({measure.unit})" if measure.unit else ""
    return f"{measure.name}{unit} {'↑' if measure.higher_is_better else '↓'}"


def _mean(summary: Summary | None, measure: Measure) -> str:
    if summary is None:
        return "–"
    places = _PLACES.get(measure.name, 3)
    error = "" if math.isnan(summary.standard_error) else f" ± {summary.standard_error:.{places}f}"
    return f"{summary.mean:.{places}f}{error}"


def _difference(comparison: Comparison | None, measure: Measure) -> str:
    if comparison is None:
        return "–"
    places = _PLACES.get(measure.name, 3)
    mean, low, high = (f"{value:+.{places}f}" for value in comparison[:3])
    return f"{mean} [{low}, {high}], {comparison.wins:.0%}"
