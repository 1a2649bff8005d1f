"""Prints how near this library comes to released models: a row for every array of the fixtures.

`python -m tests.parity.report --fixtures tests/parity/fixtures/daefr --images open`
`python -m tests.parity.report --fixtures tests/parity/fixtures/codebook_family --images open`
`python -m tests.parity.report --fixtures tests/parity/fixtures/gpen --images open`

Any folder of the same layout is taken: files of DAEFR are known by the words in their names (`tiny` or `full`;
`codebook`, `association`, `final` or `decode`), those of the codebook family by the model whose name they begin with
(`codeformer`, `vqfr_v2_nearest`, …, `blocks`), those of GPEN by the first words (`gpen_tiny_eq`, `gpen_512_eq`,
`gpen_losses_tiny`, `stylegan_ops`). So `tiny_final.npz` and `tiny_final_held.npz` both will do, and of two
files for the same thing the one that names the image set is read. Exits 1 when a row is out, when an array or a file is
not known here, or when there is nothing to compare.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.parity import gpen
from tests.parity.arrays import ARRAYS
from tests.parity.families import MODELS, model_of
from tests.parity.family_report import block_rows, rows_of
from tests.parity.judge import Row, judge
from tests.parity.setting import NETWORKS, Setting


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the report; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.report", description=__doc__.split("\n")[0])
    parser.add_argument("--fixtures", type=Path, required=True, metavar="DIR", help="folder of .npz files")
    parser.add_argument("--images", default="open", metavar="WORD", help="last word of the image names: open, held")
    parser.add_argument("--size", choices=[*NETWORKS, "all"], default="all", help="only one of the two configurations")
    chosen = parser.parse_args(arguments)
    sizes = tuple(NETWORKS) if chosen.size == "all" else (chosen.size,)
    counted, bad = 0, 0
    print(f"{'file':<24} {'array':<36} {'tolerance':>10} {'measured':>10}  verdict")
    for row in rows(chosen.fixtures, chosen.images, sizes=sizes):
        counted, bad = counted + 1, bad + (not row.good)
        print(_line(row), flush=True)
    print(f"{counted} arrays, {counted - bad} within tolerance, {bad} not")
    if not counted:
        print(f"nothing to compare: {chosen.fixtures} holds no .npz file", file=sys.stderr)
    return int(bad > 0 or counted == 0)


def rows(
    folder: Path, images: str, *, sizes: Sequence[str] = tuple(NETWORKS), kinds: Sequence[str] = tuple(ARRAYS)
) -> Iterator[Row]:
    """Gives a row for every array of every file.

    Args:
        folder: Where the .npz files lie.
        images: Last word of the image names.
        sizes: Which configurations; files of others are passed over.
        kinds: Which kinds of file, likewise.
    """
    paths, unknown = recognised(folder, images)
    others, unknown = family_files(unknown, images)
    gpens, unknown = gpen_files(unknown, images)
    for path in unknown:
        yield Row(path.name, "-", None, None, "UNKNOWN file")
    for (size, kind), path in paths.items():
        if size not in sizes or kind not in kinds:
            continue
        ours = ARRAYS[kind](Setting(size, images))
        with np.load(path, allow_pickle=False) as stored:
            for array in stored.files:
                yield judge(path.name, array, stored, ours, gate_open=_gate_open(array))
    for path in gpens:
        yield from gpen.rows_of(path)
    for name, path in others.items():
        yield from block_rows(path) if name == "blocks" else rows_of(path, name, images)


def family_files(paths: Sequence[Path], images: str) -> tuple[dict[str, Path], list[Path]]:
    """Gives the file of each model of the codebook family, in a fixed order, and the files that are of none.

    Args:
        paths: That no other model knows.
        images: Where two files are of one model, the one whose name holds this word is taken, else the shorter.
    """
    known: dict[str, list[Path]] = {}
    for path in paths:
        known.setdefault(("blocks" if path.stem == "blocks" else model_of(path)) or "", []).append(path)
    unknown = known.pop("", [])
    chosen = {
        name: min(found, key=lambda path: (images not in path.stem.split("_"), len(path.stem)))
        for name, found in known.items()
    }
    return {name: chosen[name] for name in ("blocks", *MODELS) if name in chosen}, unknown


def gpen_files(paths: Sequence[Path], images: str) -> tuple[list[Path], list[Path]]:
    """Gives GPEN's files, one of each kind, and the files that are none of them.

    Args:
        paths: That no other model knows.
        images: Where two files are of one kind, the one whose name holds this word is taken, else the shorter.
    """
    known: dict[str, list[Path]] = {}
    for path in paths:
        known.setdefault(gpen.file_of(path) or "", []).append(path)
    unknown = known.pop("", [])
    chosen = [min(of, key=lambda path: (images not in path.stem.split("_"), len(path.stem))) for of in known.values()]
    return chosen, unknown


def recognised(folder: Path, images: str) -> tuple[dict[tuple[str, str], Path], list[Path]]:
    """Gives the file of each size and kind, in a fixed order, and the files that are neither.

    Where two files are of one size and kind, the one whose name holds the image set's word is taken, else the shorter.
    """
    known: dict[tuple[str, str], list[Path]] = {}
    unknown = []
    for path in sorted(folder.glob("*.npz")):
        words = re.split(r"[^a-z0-9]+", path.stem.lower())
        size, kind = (next((word for word in words if word in among), None) for among in (NETWORKS, ARRAYS))
        if size and kind:
            known.setdefault((size, kind), []).append(path)
        else:
            unknown.append(path)

    def preference(path: Path) -> tuple[bool, int]:
        return images not in re.split(r"[^a-z0-9]+", path.stem.lower()), len(path.stem)

    order = [(size, kind) for size in NETWORKS for kind in ARRAYS]
    return {key: min(known[key], key=preference) for key in order if key in known}, unknown


def _gate_open(array: str) -> bool:
    step = re.match(r"step(\d+)_", array)
    return bool(step) and int(step[1]) in (100, 40_000)


def _line(row: Row) -> str:
    tolerance, measured = ("-" if value is None else f"{value:.1e}" for value in (row.tolerance, row.measured))
    return f"{row.file:<24} {row.array:<36} {tolerance:>10} {measured:>10}  {row.verdict}"


if __name__ == "__main__":
    sys.exit(main())
