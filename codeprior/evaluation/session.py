"""One test from beginning to end: sets, a run, tables, reports, the worst faces, verification.

A test is clean faces under a few conditions. Its folder gets one folder per condition, and `table.md` with all of them.
"""

import csv
import io
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeprior import __version__
from codeprior import files as outputs
from codeprior.evaluation import summary, worst
from codeprior.evaluation.cache import DegradedCache
from codeprior.evaluation.faces import read_face
from codeprior.evaluation.methods import CLEAN, INPUT, TEACHER, Method
from codeprior.evaluation.runs import Pictures, Run, run
from codeprior.evaluation.sets import TestSet
from codeprior.images import resize, to_array
from codeprior.metrics.journal import Journal
from codeprior.metrics.measures import Measure
from codeprior.metrics.provenance import checksum, distribution
from codeprior.metrics.report import write_report
from codeprior.metrics.results import Results
from codeprior.metrics.tables import markdown, write_results
from codeprior.metrics.verification import identity_pairs
from codeprior.photos import files
from codeprior.shapes import Image


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a test measures and writes.

    Args:
        methods: The rows besides `input`.
        measures: The columns.
        size: Side of the images, pixels.
        batch: Faces at once.
        baselines: Methods that the others are compared with.
        official: Add the means of the reference, which divides by the number of clean faces.
        teacher: The VQGAN whose codes are the truth.
        teacher_sha256: Of its weights file, for the settings.
        cache: Degraded faces on disk.
        pictures: Keep every picture, and `pairs.csv` for verification by hand.
        groups: Name of a division of the faces to face to group, see `evaluation.groups`; each gets a table.
        report_count: Best and worst faces of each method in the reports.
        worst_count: Faces in the picture of the worst.
        advance: Called with the number of faces done since the last call.
    """

    methods: Sequence[Method]
    measures: Sequence[Measure]
    size: int
    batch: int = 16
    baselines: Sequence[str] = (INPUT,)
    official: bool = False
    teacher: nn.Module | None = None
    teacher_sha256: str | None = None
    cache: DegradedCache | None = None
    pictures: bool = False
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    report_count: int = 3
    worst_count: int = 10
    advance: Callable[[int], object] = field(default=lambda count: None)


def evaluate(folder: str | Path, sets: Sequence[TestSet], plan: Plan, *, out: str | Path) -> Run:
    """Measures a test and writes its files.

    Args:
        folder: Where the clean faces are.
        sets: The same faces under different presets.
        plan: What is measured and written.
        out: Folder of the results.

    Returns:
        What the run gave; `out` holds a folder per preset (`set.json`, `scores.csv`, `results.json`, `results.md`,
        `report.html`), `table.md` with all presets, `worst/` and the journal.

    Raises:
        ValueError: No face could be read, or the sets are of different faces.
    """
    out, began = Path(out), time.monotonic()
    versions = versions_of("torch", "numpy", "pillow", "opencv-python-headless")
    for one in sets:
        (out / one.preset).mkdir(parents=True, exist_ok=True)
        one.save(out / one.preset / "set.json")
    key: dict[str, Any] = {"size": plan.size, "degradation_size": sets[0].degradation_size, "versions": versions}
    # figures depend on this, and on the face and the method that each line names
    key |= {"columns": {measure.name: measure.record.as_dict() for measure in plan.measures}}
    with Journal(out / "journal.jsonl", key=key) as journal:
        found = run(
            folder, sets, plan.methods, measures=plan.measures, size=plan.size, batch=plan.batch, journal=journal,
            degradation_size=sets[0].degradation_size, cache=plan.cache, teacher=plan.teacher,
            keep=partial(_keep, out) if plan.pictures else None, advance=plan.advance,
        )  # fmt: skip
    if not any(results.values for results in found.results.values()):
        raise ValueError(f"no face of {folder} could be read.")
    seconds = round(time.monotonic() - began, 1)
    for one in sets:
        results = found.results[one.preset]
        settings = _settings(one, plan, versions, set_sha256=checksum(out / one.preset / "set.json"))
        finished = _finished(out / one.preset, settings, plan)
        results.truths = len(one.faces) if plan.official else None
        results.settings |= settings | ({"codes": found.codes[one.preset]} if one.preset in found.codes else {})
        shares = {method: summary.worse_share(results, method) for method in results.values if method != INPUT}
        results.settings |= {"seconds": seconds, "worse_by_1_dB": shares}
        write_results(out / one.preset, results, baselines=plan.baselines)
        if not finished:
            write_report(
                out / one.preset, results, partial(_labelled, folder, one, plan),
                title=f"{one.preset}: {len(one.faces)} faces, {plan.size} px", column=plan.measures[0].name,
                baselines=plan.baselines, count=plan.report_count,
            )  # fmt: skip
            _write_worst(out / "worst", folder, one, results, plan)
        if plan.pictures:
            _write_pairs(out / one.preset / "pictures" / "pairs.csv", one)
    _write_table(out, found, sets, plan)
    return found


def versions_of(*names: str) -> dict[str, str]:
    """Gives the versions that figures depend on.

    Args:
        names: Of distributions besides codeprior.
    """
    return {"codeprior": __version__} | {name: distribution(name) for name in names}


def shown(folder: str | Path, test_set: TestSet, methods: Sequence[Method], names: Sequence[str], *, size: int) -> dict[
    str, dict[str, Image]
]:  # fmt: skip
    """Gives the pictures of some faces again, as a run measured them.

    Args:
        folder: Where the clean faces are.
        test_set: How they are degraded.
        methods: What restores them.
        names: Which faces.
        size: Side of the images, pixels.

    Returns:
        Face to `input`, every method and `clean`, each `1 3 S S`, unit.
    """
    found = {}
    for face in test_set.faces:
        if face.name in names:
            pixels = read_face(folder, face)
            large = test_set.degrade([face.name], resize(pixels, test_set.degradation_size))
            given = {"degraded": resize(large, size), "large": large, "clean": resize(pixels, size)}
            images = {method.name: method.restore(given[method.takes]) for method in methods}
            found[face.name] = {INPUT: given["degraded"], **images, CLEAN: given["clean"]}
    return found


def _settings(one: TestSet, plan: Plan, versions: Mapping[str, str], *, set_sha256: str) -> dict[str, Any]:
    return {
        "preset": one.preset,
        "seed": one.seed,
        "faces": len(one.faces),
        "identities": len({face.identity for face in one.faces}),
        "size": plan.size,
        "degradation_size": one.degradation_size,
        "set_sha256": set_sha256,
        "methods": {method.name: dict(method.about) for method in plan.methods},
        "teacher_sha256": plan.teacher_sha256,
        "baselines": list(plan.baselines),
        "official": plan.official,
        "versions": dict(versions),
        "stamps": {method.name: method.stamp for method in plan.methods},
    }


def _finished(folder: Path, settings: Mapping[str, Any], plan: Plan) -> bool:
    """Says whether the folder holds the report of these results already."""
    try:
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        same = all(found["settings"].get(name) == value for name, value in settings.items())
        records = {name: {key: column[key] for key in column if key not in ("unit", "better")}
                   for name, column in found["measures"].items()}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted = {measure.name: measure.record.as_dict() for measure in plan.measures}
    return same and (folder / "report.html").is_file() and records == wanted and all(m.stamp for m in plan.methods)


def _labelled(folder: str | Path, one: TestSet, plan: Plan, method: str, name: str) -> dict[str, Image]:
    images = shown(folder, one, plan.methods, [name], size=plan.size)[name]
    return {("truth" if label == CLEAN else label): image for label, image in images.items()}


def _write_worst(folder: Path, faces: str | Path, one: TestSet, results: Results, plan: Plan) -> None:
    if "identity" not in {measure.name for measure in plan.measures}:
        return
    for method in plan.methods:
        if method.name == TEACHER or method.name not in results.values:
            continue
        chosen = worst.worst_faces(results, method.name, count=plan.worst_count)
        images = shown(faces, one, [method], [face.name for face in chosen], size=plan.size)
        single = {name: {label: image[0] for label, image in row.items()} for name, row in images.items()}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{one.preset}-{re.sub(r'[^0-9A-Za-z.-]+', '_', method.name)}.png"
        files.write(path, worst.worst_picture(results, method.name, single, chosen), overwrite=True)


def _write_table(out: Path, found: Run, sets: Sequence[TestSet], plan: Plan) -> None:
    faces = sets[0].faces
    made = summary.summary_tables(found.results, baselines=plan.baselines)
    by_source = summary.source_table(found.results, {face.name: face.source for face in faces})
    identities = {face.name: face.identity for face in faces}
    judged = {}
    for condition, rows in found.embeddings.items():
        restored = {name: values for name, values in rows.items() if name not in (TEACHER, CLEAN)}
        judged[condition] = summary.verification(restored, rows.get(CLEAN, {}), identities)
    verified = summary.verification_table(judged)
    remarks = summary.summary_notes(found.results)
    if verified is None and found.embeddings:
        remarks.append("verification: too few people have two pictures in this set, so nothing was judged")
    by_groups = [
        summary.group_table(found.results, groups, what=what, caption=f"By {what}; mean ± standard error.")
        for what, groups in plan.groups.items()
    ]
    tables = made + [table for table in (verified, by_source, *by_groups) if table is not None]
    outputs.write(out / "table.md", markdown(tables, remarks), overwrite=True)
    content = {name: {method: one._asdict() for method, one in rows.items()} for name, rows in judged.items()}
    outputs.write(out / "verification.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n", overwrite=True)


def _keep(out: Path, pictures: Pictures) -> None:
    for label, batch in pictures.images.items():
        for face, image in zip(pictures.faces, batch, strict=True):
            path = out / pictures.condition / "pictures" / label.replace("/", "_") / f"{face.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, to_array(image), overwrite=True)


def _write_pairs(path: Path, test_set: TestSet) -> None:
    """Writes verification pairs of the set, for `codeprior verify`."""
    identities = {face.name: face.identity for face in test_set.faces}
    pairs = identity_pairs(identities, torch.Generator().manual_seed(test_set.seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["first", "second", "same"])
    writer.writerows([pair.first, pair.second, int(pair.same)] for pair in pairs)
    outputs.write(path, lines.getvalue(), overwrite=True)
