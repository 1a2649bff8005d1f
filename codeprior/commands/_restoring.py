"""The two halves of restoring a file around the network: read and align before it, paste and write after it."""

import ctypes
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codeprior import files
from codeprior.commands._jobs import Job
from codeprior.photos.faces import Detector, Face, Parser
from codeprior.photos.files import Photo, PhotoError, read, read_bytes, write
from codeprior.photos.restoration import Choices, Finished, Prepared, Restored, answer, finish, prepare
from codeprior.photos.sheets import comparison, uncertainty_map
from codeprior.photos.upscaling import Upscaling, check_size, enlarged
from codeprior.shapes import Image

# of mallopt in glibc's malloc.h, with the values that are set: bytes, bytes, and a number
_ALLOCATION = {-1: 2**28, -3: 2**26, -8: 1}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX


def bound_memory() -> None:
    """Says what is kept for the next photograph, where the user has not said it.

    By default oneDNN keeps a thousand prepared operations, of every size of picture that the detector has met: a folder
    of photographs would take more memory the longer it is. Now it keeps 32. It has an effect until the first
    convolution of the process.

    By default glibc gives the memory of a large tensor back to the system, and takes the next one's from there page by
    page, which takes a tenth of the time of restoring. Now up to 256 MiB are kept, and only what is larger than 64 MiB
    is given back at once.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    if not any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Lets glibc keep freed memory for later, and says whether this system's C library takes such a setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # other libraries have none; on Windows nothing is loaded by None
        return False
    return all(mallopt(name, value) == 1 for name, value in _ALLOCATION.items())


class Worker:
    """What the stream of photographs calls, from several threads.

    Args:
        restorer: Takes aligned faces.
        detector: Finds faces; None for aligned inputs.
        choices: What the user decided.
        points: Faces marked by hand, by photograph.
        mask: What keeps paste-back to the face; None pastes the whole soft square.
        keep_alpha: Keep transparency.
        overwrite: Replace results that exist.
        compare: Also write comparison sheets.
        uncertainty: Also write maps of where the model guessed.
        resume: Replace sheets of ours without a result: a run that was killed between the two left them.
        metadata: Keep date, camera, description, place and resolution.
        upscaling: Enlarge photographs, and restore their faces at the new size.
    """

    def __init__(
        self,
        restorer: Any,
        detector: Detector | None,
        *,
        choices: Choices,
        points: Mapping[Path, list[Face]],
        mask: Parser | None = None,
        keep_alpha: bool = False,
        overwrite: bool = False,
        compare: bool = False,
        uncertainty: bool = False,
        resume: bool = False,
        metadata: bool = True,
        upscaling: Upscaling | None = None,
    ):
        self.restorer, self.detector, self.choices, self.points = restorer, detector, choices, points
        self.keep_alpha, self.overwrite, self.compare, self.uncertainty = keep_alpha, overwrite, compare, uncertainty
        self.resume, self.mask, self.metadata = resume, mask, metadata
        self.upscaling = upscaling
        self._photos: dict[Path, tuple[Photo, float]] = {}

    def prepare(self, job: Job) -> Prepared:
        """Reads a photograph and cuts its faces out."""
        started = time.monotonic()
        if not self.overwrite:
            for target in self._targets(job)[: 1 if self.resume else None]:
                if target.exists():
                    raise PhotoError(
                        target, f"its result {target} exists already and is kept (--overwrite replaces it)"
                    )
        photo = read(
            job.source,
            keep_alpha=self.keep_alpha and not self.choices.aligned,
            keep_depth=self.upscaling is None and _holds_depth(job.target),
        )
        if self.upscaling is not None:
            height, width = photo.pixels.shape[:2]
            check_size(height, width, self.upscaling.factor)
        prepared = prepare(
            photo.pixels,
            self.detector,
            size=self.restorer.size,
            choices=self.choices,
            faces=self.points.get(job.source),
            judge=getattr(self.restorer, "judge", None),
            enlarged=self.upscaling is not None,
        )
        self._photos[job.source] = photo, started
        return prepared

    def restore(self, images: Image, fidelities: Sequence[float | None]) -> Restored:
        """Sends a batch of faces through the network."""
        return answer(self.restorer, images, uncertainty=self.uncertainty, fidelities=fidelities)

    def finish(self, job: Job, prepared: Prepared, restored: Restored) -> dict[str, Any]:
        """Pastes the faces back, writes the results and gives what the report says about them."""
        photo, started = self._photos.pop(job.source)
        if self.uncertainty and prepared.asked and restored.uncertainty is None:
            raise ValueError("the model does not say where it guessed; leave --uncertainty out")
        done = finish(
            prepared, restored, choices=self.choices, mask=self.mask, deep=photo.deep, upscaling=self.upscaling
        )
        target, *extra = self._targets(job)
        # sheets first: the result itself is what tells a later run that this photograph is done
        sheets = ([comparison(prepared, done)] if self.compare else []) + (
            [uncertainty_map(prepared, done)] if self.uncertainty else []
        )
        for path, sheet in zip(extra, sheets, strict=True):
            write(path, sheet, overwrite=self.overwrite or self.resume)
        notes, alpha = list(photo.notes), photo.alpha
        if self.upscaling is not None:
            notes.append(f"enlarged {self.upscaling.factor} times")
            alpha = None if alpha is None else enlarged(alpha, self.upscaling)
        if self.upscaling is None and done.untouched and self.metadata and _could_be_copied(photo, target):
            _copy(job.source, target, overwrite=self.overwrite)
            notes.append("the file was copied as it is")
        else:
            write(
                target,
                done.pixels if done.deep is None else done.deep,
                alpha=alpha,
                profile=photo.profile,
                metadata=photo.metadata if self.metadata else None,
                overwrite=self.overwrite,
            )
        return {
            "status": "untouched" if done.untouched else "restored",
            "reason": _why_untouched(done) if done.untouched else None,
            "notes": notes,
            "faces": _faces(done),
            "seconds": round(time.monotonic() - started, 3),
        }

    def forget(self, job: Job) -> None:
        """Lets go of a photograph that failed."""
        self._photos.pop(job.source, None)

    def _targets(self, job: Job) -> list[Path]:
        sheets = [".compare.png"] * self.compare + [".uncertainty.png"] * self.uncertainty
        return [job.target, *map(job.beside, sheets)]


def _holds_depth(target: Path) -> bool:
    """Says whether the format of a result has a place for 16 bits a channel."""
    from PIL import Image

    from codeprior.photos.depth import HOLD_IT

    return Image.registered_extensions().get(target.suffix.lower()) in HOLD_IT


def _could_be_copied(photo: Photo, target: Path) -> bool:
    """Says whether the file itself is what would be written, so that nothing is encoded again."""
    from PIL import Image

    same = Image.registered_extensions().get(target.suffix.lower()) == photo.format
    return same and "transparency was laid over white" not in photo.notes


def _copy(source: Path, target: Path, *, overwrite: bool) -> None:
    try:
        files.write(target, read_bytes(source), overwrite=overwrite)
    except FileExistsError:
        raise PhotoError(target, "exists already and is kept; ask for overwriting to replace it") from None
    except OSError as error:
        raise PhotoError(target, f"cannot be written: {error.strerror or error}") from error


def _why_untouched(done: Finished) -> str:
    return "; ".join(dict.fromkeys(decision.reason for decision in done.decisions if decision is not None))


def _faces(done: Finished) -> list[dict[str, Any]]:
    """Gives what a report says about each face that was found, or about the one of an aligned photograph."""
    found = [_found(face) for face in done.found] or [{}]
    doubts = iter(done.uncertainty if done.uncertainty is not None else ())
    for number, decision, grain in zip(done.chosen or [0], done.decisions, done.grain, strict=True):
        restored = decision is None or decision.action != "left"
        found[number] |= {"restored": restored} | (decision.described() if decision else {})
        if grain:
            found[number]["grain"] = round(grain, 2)
        if restored and done.uncertainty is not None:
            found[number]["uncertainty"] = round(float(next(doubts).mean()), 4)
    return found


def _found(face: Face) -> dict[str, Any]:
    return {
        "box": [round(float(value), 1) for value in face.box],
        "points": [[round(float(x), 1), round(float(y), 1)] for x, y in face.points],
        "score": round(face.score, 4),
        "restored": False,
    }
