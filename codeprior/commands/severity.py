"""`codeprior severity`: quality against severity, each degradation parameter swept alone, one figure.

    codeprior severity --faces FOLDER --split test --limit 32 --out OUT \
        --method "single encoder=single.safetensors" --method "DAEFR=daefr.safetensors"

For each level of blur, reduction, noise and JPEG the faces are degraded by that alone, at 512 px, then brought to the
models' size as in training. OUT gets one row per image and level (`severity.csv`), means with intervals and provenance
(`severity.json`), tables (`severity.md`) and the plot (`severity.png`). What an interrupted run has measured is kept in
`journal.jsonl` and not measured again, so a method that is added later costs only itself.
"""

import argparse
from pathlib import Path

from codeprior.commands import _measuring
from codeprior.commands._outputs import check_outputs
from codeprior.commands._printing import say, say_lines

HELP = "Sweep blur, reduction, noise and JPEG, each alone, and plot how well trained models restore."
_NAME = "codeprior severity"
_SWEEPS = ("blur", "reduction", "noise", "JPEG")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("--faces", required=True, type=Path, help="folder of clean aligned faces")
    parser.add_argument("--split", help="only this split of the folder's index.csv")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--method", action="append", default=[], metavar="NAME=[FAMILY:]WEIGHTS", help="a restorer")
    parser.add_argument("--sweep", action="append", choices=_SWEEPS, help="repeatable (all)")
    parser.add_argument("--columns", metavar="A,B", help=_measuring.COLUMNS)
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="downloaded weights: VGG-16, ArcFace")
    parser.add_argument("--limit", type=int, help="at most so many faces, spread evenly")
    parser.add_argument("--overwrite", action="store_true", help="replace files in --out that this command never wrote")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument(
        "--size", type=int, help="pixels a side of what is measured; answers of another size are resized"
    )
    parser.add_argument("--batch", type=int, default=8, help="faces at once (8)")


def run(arguments: argparse.Namespace) -> int:
    """Measures what was asked for.

    Args:
        arguments: As parsed.

    Returns:
        0 all measured, 3 some faces were left out, 2 nothing could be measured.
    """
    return _measuring.guarded(_NAME, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from codeprior import evaluation

    measures = _measuring.asked_columns(_NAME, options)
    methods, size = _measuring.asked_methods(options.method, size=options.size, batch=options.batch)
    sweeps = [sweep for sweep in evaluation.SWEEPS if sweep.name in (options.sweep or _SWEEPS)]
    chosen = evaluation.chosen_faces(options.faces, split=options.split, limit=options.limit)
    check_outputs(
        options.out, evaluation.SEVERITY_FILES, marker="journal.jsonl", keys=("columns",), overwrite=options.overwrite
    )
    with tqdm(total=len(chosen.faces), unit="face", desc="severity", disable=None) as bar:
        found = evaluation.measure_severity(
            options.faces, chosen, sweeps, methods, measures, size=size, out=options.out, seed=options.seed,
            batch=options.batch, advance=bar.update,
        )  # fmt: skip
    say_lines(found.text)
    for name, reason in found.gone.items():
        say(f"{_NAME}: {name}: {reason}", error=True)
    return _measuring.LEFT_OUT if found.gone else 0
