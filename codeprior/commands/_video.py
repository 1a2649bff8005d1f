"""`codeprior restore CLIP OUT`: one video, its progress and its line of report."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codeprior import files
from codeprior.commands._outputs import Report, UsageError
from codeprior.commands._printing import reason_of, say
from codeprior.files import printable

_FAILED = 3
_FOR_PHOTOGRAPHS = (
    "aligned",
    "landmarks",
    "compare",
    "uncertainty",
    "keep_alpha",
    "format",
    "strip_metadata",
    "upscale",
)


def run_video(arguments: argparse.Namespace, worker: Callable[[], Any]) -> int:
    """Restores one video.

    Args:
        arguments: As parsed; `paths` are the video and where its result goes: a name, or a folder.
        worker: Gives what restores photographs, with the same restorer, detector and choices.

    Returns:
        0 restored or left as it was, 3 failed.

    Raises:
        UsageError: The call makes no sense.
        ImportError: PyAV is not installed.
    """
    from codeprior.extras import needed

    source, target = _paths(arguments)
    for name in _FOR_PHOTOGRAPHS:
        if getattr(arguments, name) not in (None, False):
            raise UsageError(f"--{name.replace('_', '-')} is for photographs; leave it out for a video.")
    needed("av", who="codeprior restore: a video")
    from tqdm import tqdm

    from codeprior.photos.video import Steadiness, restore_video

    steadiness = Steadiness(share=arguments.steady)
    parts = worker()
    report = Report(arguments.report, append=arguments.resume, overwrite=arguments.overwrite, inputs=[source])
    line = {"input": str(source), "output": str(target)}
    try:
        if arguments.resume and target.exists():
            report.add(**line, status="skipped", reason="its result exists")
            say("codeprior restore: 0 frames restored, its result exists", error=True)
            return 0
        hidden = arguments.quiet or not sys.stderr.isatty()
        with tqdm(unit="frame", disable=hidden, file=sys.stderr) as bar:

            def progress(done: int, frames: int) -> None:
                bar.total = max(frames, done) if frames else None
                bar.update(done - bar.n)

            done = restore_video(
                source,
                target,
                parts.restorer,
                detector=parts.detector,
                choices=parts.choices,
                steadiness=steadiness,
                mask=parts.mask,
                overwrite=arguments.overwrite,
                resume=arguments.resume,
                described=_described(arguments),
                progress=progress,
            )
        report.add(
            **line,
            status="restored" if done.restored else "untouched",
            reason=None,
            **done._asdict() | {"notes": list(done.notes)},
        )
    except (OSError, RuntimeError, ValueError) as error:
        report.add(**line, status="failed", reason=reason_of(error))
        say(f"codeprior restore: {printable(source)}: {printable(reason_of(error))}", error=True)
        return _FAILED
    finally:
        report.close()
    earlier = f", {done.before} of them by an earlier run" if done.before else ""
    say(
        f"codeprior restore: {done.restored} of {done.frames} frames restored{earlier}; {done.faces} faces followed, "
        f"{done.cuts} cuts; {done.seconds:.1f} s",
        error=True,
    )
    for note in done.notes:
        say(f"codeprior restore: {printable(source)}: {printable(note)}", error=True)
    return 0


def _paths(arguments: argparse.Namespace) -> tuple[Path, Path]:
    from codeprior.photos.video.writing import WRITTEN

    if len(arguments.paths) != 2:
        raise UsageError("a video is restored by itself; give the video and the name of the result.")
    source, target = map(Path, arguments.paths)
    if target.is_dir():
        suffix = source.suffix if source.suffix.lower() in WRITTEN else ".mp4"
        target = target / f"{source.stem}{suffix}"
    if target.suffix.lower() not in WRITTEN:
        raise UsageError(f"{target}: videos are written as {', '.join(WRITTEN)}; give such a name or a folder.")
    files.make_folder(target.parent)
    return source, target


def _described(arguments: argparse.Namespace) -> str:
    """Says what a result depends on beside the choices."""
    weights = Path(arguments.weights)
    identity = files.sha256(weights) if weights.is_file() else arguments.weights
    return " ".join([identity, str(arguments.recipe), *arguments.option, arguments.detector, str(arguments.parser)])
