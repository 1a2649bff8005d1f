"""Folders of restored pictures compared from beginning to end: a journal, tables, set figures and a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from codeprior.evaluation.folders import Folders, Measured, measure_folders, pair_folders
from codeprior.evaluation.session import versions_of
from codeprior.metrics.frechet import FEWEST, fid, kid, read_statistics
from codeprior.metrics.inception import FIDInception
from codeprior.metrics.journal import Journal
from codeprior.metrics.measures import Measure
from codeprior.metrics.pictures import as_image
from codeprior.metrics.provenance import checksum
from codeprior.metrics.report import write_report
from codeprior.metrics.results import Results, SetFigure
from codeprior.metrics.tables import write_results
from codeprior.photos.files import read
from codeprior.shapes import Image


@dataclass(frozen=True, kw_only=True)
class FolderPlan:
    """How folders are compared.

    Args:
        measures: The columns.
        baseline: Method that the others are compared with.
        truth: Folder of clean pictures, or None.
        pattern: How the restored picture of `{name}` is called.
        network: Network of the set figures.
        reference: Statistics of the reference set for FID.
        with_kid: Also KID against the truth.
        force: FID on fewer pictures than it needs.
        official: Add the means of the reference, which divides by the number of clean pictures.
        groups: Picture to its group, for the intervals.
        batch: Pictures at once.
        report_by: Heading of the column that ranks the report's pictures; by default the first.
        report_count: Best and worst pictures of each method.
        fresh: Forget what an earlier run has measured.
        advance: Called with the number of pictures read since the last call.
    """

    measures: Sequence[Measure]
    baseline: str
    truth: Path | None = None
    pattern: str = "{name}"
    network: FIDInception | None = None
    reference: Path | None = None
    with_kid: bool = False
    force: bool = False
    official: bool = False
    groups: Mapping[str, str] | None = None
    batch: int = 8
    report_by: str | None = None
    report_count: int = 3
    fresh: bool = False
    advance: Callable[[int], object] = lambda count: None


class Compared(NamedTuple):
    """What `compare_folders` gives.

    Attributes:
        results: What was measured.
        baselines: Methods that the others were compared with, for the tables.
    """

    results: Results
    baselines: list[str]


def compare_folders(
    methods: Mapping[str, Path], plan: FolderPlan, *, out: Path, folders: Folders | None = None
) -> Compared:
    """Measures folders and writes `scores.csv`, `results.json`, `results.md`, `report.html` and the journal.

    Args:
        methods: Name to folder.
        plan: How they are compared.
        out: Folder of the results.
        folders: What `pair_folders` gave for them, where the caller has it already.

    Raises:
        ValueError: The folders do not pair, or FID is asked for on too few pictures.
        OSError: The results cannot be written.
    """
    folders = pair_folders(methods, plan.truth, pattern=plan.pattern) if folders is None else folders
    if plan.reference:
        _check_counts(folders, force=plan.force)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "journal.jsonl"
    versions = versions_of("torch", "numpy", "pillow")
    records = [measure.record for measure in plan.measures] + ([plan.network.record] if plan.network else [])
    key = {
        "columns": [measure.name for measure in plan.measures],
        "records": [record.as_dict() for record in records],
        "versions": versions,
    }
    with Journal(path, key=key, fresh=plan.fresh) as journal:
        measured = measure_folders(
            folders, plan.measures, journal=journal, batch=plan.batch, set_network=plan.network, groups=plan.groups,
            advance=plan.advance,
        )  # fmt: skip
    results = measured.results
    if plan.network is not None:
        _add_sets(plan, plan.network, folders, measured)
    results.settings |= _settings(plan, methods, folders, versions)
    results.truths = len(folders.names) if plan.official else None
    baselines = [plan.baseline] if plan.baseline in results.values else []
    write_results(out, results, baselines=baselines)
    shown = [measure.name for measure in results.measures if any(
        measure.name in row for rows in results.values.values() for row in rows.values()
    )]  # fmt: skip
    if shown:
        write_report(
            out, results, lambda method, name: _pictures(folders, method, name),
            title=f"{', '.join(folders.methods)}: {len(folders.names)} pictures", column=plan.report_by or shown[0],
            baselines=baselines, count=plan.report_count,
        )  # fmt: skip
    return Compared(results, baselines)


def _check_counts(folders: Folders, *, force: bool) -> None:
    """Refuses FID before hours of measuring, rather than after them."""
    for method, pictures in folders.methods.items():
        if len(pictures) < FEWEST and not force:
            raise ValueError(
                f"FID of {method}: expected at least {FEWEST} pictures, got {len(pictures)}; on fewer it is biased and "
                "says little. Use --kid, or --force and state the count."
            )


def _settings(
    plan: FolderPlan, methods: Mapping[str, Path], folders: Folders, versions: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "methods": {name: folder.name for name, folder in methods.items()},
        "truth": plan.truth.name if plan.truth else None,
        "pictures": len(folders.names),
        "pattern": plan.pattern,
        "official": plan.official,
        "versions": dict(versions),
    }


def _add_sets(plan: FolderPlan, network: FIDInception, folders: Folders, measured: Measured) -> None:
    """Adds FID and KID; a set that is too small is named, and has no figure."""
    results = measured.results
    if plan.reference:
        reference = read_statistics(plan.reference)
        note = f"reference {plan.reference.name}, sha256 {checksum(plan.reference)[:12]}…"
        results.set_records["FID"] = replace(network.record, note=note)
        for method, features in measured.features.items():
            value = fid(features, reference, force=plan.force)
            results.sets.setdefault(method, {})["FID"] = SetFigure(value, len(features))
    if plan.with_kid:
        assert folders.truth is not None
        with torch.inference_mode():
            truth = torch.cat([network(as_image(read(path).pixels)) for path in folders.truth.values()])
        results.set_records["KID"] = replace(network.record, note="against the clean pictures")
        for method, features in measured.features.items():
            results.sets.setdefault(method, {})["KID"] = SetFigure(kid(features, truth), len(features))


def _pictures(folders: Folders, method: str, name: str) -> dict[str, Image]:
    first = next(iter(folders.methods))
    paths = {label: folders.methods[label].get(name) for label in dict.fromkeys([first, method])}
    paths |= {"truth": folders.truth.get(name)} if folders.truth else {}
    return {label: as_image(read(path).pixels) for label, path in paths.items() if path is not None}
