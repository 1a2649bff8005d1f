"""What the page does with photographs, without the page: opening, choosing faces, restoring one or many.

Everything is done as `codeprior restore` does it: files of unknown origin are read with the same care, decisions and
writing are the same. One photograph is worked on at a time, whoever asked for it.
"""

import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from codeprior.commands._jobs import Job, jobs
from codeprior.commands._printing import reason_of
from codeprior.commands._restoring import Worker
from codeprior.families import installed_families
from codeprior.images import to_array
from codeprior.photos.faces import Detector, Face, detector, search
from codeprior.photos.files import read
from codeprior.photos.restoration import Choices
from codeprior.photos.sheets import heat
from codeprior.restorers import Restorer, load_restorer

_KEPT = 64  # results that stay on disk for whoever looks at them
_LINE, _FADED = (46, 160, 67), (130, 130, 130)  # of a face that is restored, and of one that is not


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one user may ask for at once."""

    megabytes: int = 40  # of a file
    megapixels: int = 40  # of a photograph
    photographs: int = 100  # restored in one go
    seconds: float = 900.0  # after which no further photograph is begun


class Settings(NamedTuple):
    """What a user chose.

    Attributes:
        weights: One of `Bench.names`.
        fidelity: `auto`, or in [0, 1]: 0 follows the model alone, 1 the photograph as far as the model can.
        strength: 0 the input face, 1 the restored one.
        always: Restore faces too that hold more than the model gives back.
        grain: Give mended faces the photograph's grain back.
    """

    weights: str
    fidelity: float | str = "auto"
    strength: float = 1.0
    always: bool = False
    grain: bool = True

    def choices(self) -> Choices:
        """Gives them as `codeprior.photos` takes them."""
        return Choices(
            strength=self.strength, fidelity=self.fidelity, always=self.always, colour=True,
            grain="auto" if self.grain else 0.0,
        )  # fmt: skip


class Opened(NamedTuple):
    """A photograph in which faces were looked for.

    Attributes:
        path: The file.
        faces: From left to right.
        chosen: Numbers of those that are to be restored.
    """

    path: Path
    faces: tuple[Face, ...]
    chosen: frozenset[int]


class Result(NamedTuple):
    """A photograph restored.

    Attributes:
        path: The result, with the metadata of the photograph.
        before: `H W 3`, RGB, 8-bit levels.
        after: The same, restored.
        uncertainty: Where the model guessed, over the photograph in grey; None where it cannot say.
        damage: What each face went through, over the photograph in grey.
        said: A line per face.
    """

    path: Path
    before: UInt8[np.ndarray, "H W 3"]
    after: UInt8[np.ndarray, "H W 3"]
    uncertainty: UInt8[np.ndarray, "H W 3"] | None
    damage: UInt8[np.ndarray, "H W 3"]
    said: tuple[str, ...]


class Bench:
    """Opens and restores photographs, one at a time.

    Args:
        weights: Names of embedded weights, and files.
        device: Where the networks run.
        finder: Finds faces; None takes the default detector.
        limits: What is refused.

    Attributes:
        names: What each weights file is called on the page: family and name.
        uploads: A folder for what users send, of this process alone, which goes with it.

    Raises:
        FileNotFoundError: A weights file is not there.
    """

    def __init__(
        self,
        weights: Sequence[str] = ("small",),
        *,
        device: str = "cpu",
        finder: Detector | None = None,
        limits: Limits | None = None,
    ):
        self.limits, self.device = limits or Limits(), device
        self.names = _named(weights)
        self._finder, self._restorers, self._one = finder, dict[str, Restorer](), Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="codeprior-ui-")
        self._made: list[tempfile.TemporaryDirectory] = []
        self.uploads = Path(self._folder.name) / "uploads"
        self.uploads.mkdir()

    def open(self, path: Path) -> Opened:
        """Reads a photograph and finds its faces; all are chosen.

        Args:
            path: The file.

        Raises:
            ValueError: It is too large, or no photograph; the text names the file without its folder.
        """
        pixels = self._pixels(path)
        with self._one:
            self._finder = self._finder or detector()
            usual = Choices()
            found = search(self._finder, pixels, smallest=usual.smallest, score=usual.score)
        faces = [face for face in found if face.score >= usual.score and _eyes(face) >= usual.smallest]
        faces.sort(key=lambda face: float(face.box[0]))
        return Opened(path, tuple(faces), frozenset(range(len(faces))))

    def shown(self, opened: Opened) -> UInt8[np.ndarray, "H W 3"]:
        """Gives the photograph with its faces framed and numbered: green those that are restored, grey the others.

        Args:
            opened: The photograph.
        """
        picture = Image.fromarray(self._pixels(opened.path))
        for number, face in enumerate(opened.faces):
            _frame(picture, face.box, str(number), _LINE if number in opened.chosen else _FADED)
        return np.asarray(picture)

    def restore(self, opened: Opened, settings: Settings) -> Result:
        """Restores the chosen faces of a photograph.

        Args:
            opened: The photograph.
            settings: How.

        Raises:
            ValueError: No face is chosen, or the file cannot be restored.
        """
        if not opened.chosen:
            found = "click on one" if opened.faces else "none was found in it"
            raise ValueError(f"{opened.path.name}: no face is chosen; {found}.")
        faces = [face for number, face in enumerate(opened.faces) if number in opened.chosen]
        ((job,), _) = jobs([str(opened.path)], self._new_folder(), sheets=[".uncertainty.png"])
        try:
            report = self._restored(job, settings, faces)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{opened.path.name}: {_without_folder(error, opened.path)}") from error
        before, sheet = read(opened.path).pixels, job.beside(".uncertainty.png")
        return Result(
            job.target, before, read(job.target).pixels, read(sheet).pixels if sheet.exists() else None,
            damage_map(before, report["faces"]), tuple(map(_sentence, report["faces"])),
        )  # fmt: skip

    def restore_all(
        self, paths: Sequence[Path], settings: Settings, *, said: Callable[[int, str], None] = lambda done, name: None
    ) -> tuple[Path, list[tuple[str, str]]]:
        """Restores all faces of many photographs.

        Args:
            paths: The files.
            settings: How.
            said: Called before each photograph with how many are done and the name of the next.

        Returns:
            A ZIP archive of the results, and what became of each file. A file that fails is named and the others are
            done; when the time is over, the rest is left out.
        """
        folder, outcomes, end = self._new_folder(), [], time.monotonic() + self.limits.seconds
        made = tempfile.TemporaryDirectory(dir=folder)
        work, _ = jobs([str(path) for path in paths], Path(made.name))
        for number, job in enumerate(work):
            if number >= self.limits.photographs:
                outcomes.append((job.source.name, f"left out: {self.limits.photographs} photographs are done at once"))
                continue
            if time.monotonic() > end:
                outcomes.append((job.source.name, f"left out: the {self.limits.seconds:g} seconds are over"))
                continue
            said(number, job.source.name)
            try:
                if job.refusal:
                    raise ValueError(job.refusal)
                self._pixels(job.source)
                outcomes.append((job.source.name, self._restored(job, settings, None)["status"]))
            except (OSError, ValueError, RuntimeError) as error:
                outcomes.append((job.source.name, f"failed: {_without_folder(error, job.source)}"))
        archive = folder / "restored.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
            for path in sorted(Path(made.name).iterdir()):
                file.write(path, path.name)
        made.cleanup()
        return archive, outcomes

    def _restored(self, job: Job, settings: Settings, faces: Sequence[Face] | None) -> dict[str, Any]:
        """Writes the result of a photograph, and gives what the report says about it."""
        with self._one:
            restorer = self._restorer(settings.weights)
            self._finder = self._finder or detector()
            points = {} if faces is None else {job.source: list(faces)}
            more = {"choices": settings.choices(), "points": points, "overwrite": True}
            if faces is not None:
                try:
                    return _worked(job, Worker(restorer, self._finder, uncertainty=True, **more))
                except ValueError as error:
                    # a model without logits cannot say how sure it was
                    if "uncertainty" not in str(error):
                        raise
            return _worked(job, Worker(restorer, self._finder, **more))

    def _restorer(self, name: str) -> Restorer:
        if name not in self.names:
            raise ValueError(f"no weights are called {name!r}; there are {', '.join(self.names)}.")
        if name not in self._restorers:
            self._restorers.clear()  # one model at a time is in memory
            self._restorers[name] = load_restorer(self.names[name], device=self.device)
        return self._restorers[name]

    def _pixels(self, path: Path) -> UInt8[np.ndarray, "H W 3"]:
        size = path.stat().st_size
        if size > self.limits.megabytes * 2**20:
            raise ValueError(f"{path.name} has {size >> 20} MB; files up to {self.limits.megabytes} MB are taken.")
        try:
            pixels = read(path).pixels
        except ValueError as error:
            raise ValueError(f"{path.name}: {_without_folder(error, path)}") from error
        if pixels[..., 0].size > self.limits.megapixels * 10**6:
            height, width = pixels.shape[:2]
            raise ValueError(
                f"{path.name} has {width}×{height} pixels; "
                f"photographs up to {self.limits.megapixels} megapixels are taken."
            )
        return pixels

    def _new_folder(self) -> Path:
        self._made.append(tempfile.TemporaryDirectory(dir=self._folder.name, ignore_cleanup_errors=True))
        for old in self._made[:-_KEPT]:
            old.cleanup()
        self._made = self._made[-_KEPT:]
        return Path(self._made[-1].name)


def clicked(opened: Opened, x: float, y: float) -> Opened:
    """Gives a photograph with the face at a place chosen, or no longer chosen where it was; of several the smallest.

    Args:
        opened: The photograph.
        x: Column, pixels.
        y: Row, pixels.
    """
    under = [
        (float((right - left) * (bottom - top)), number)
        for number, (left, top, right, bottom) in enumerate(face.box for face in opened.faces)
        if left <= x <= right and top <= y <= bottom
    ]
    return opened._replace(chosen=opened.chosen ^ {min(under)[1]}) if under else opened


def damage_map(pixels: UInt8[np.ndarray, "H W 3"], faces: Sequence[Mapping[str, Any]]) -> UInt8[np.ndarray, "H W 3"]:
    """Gives the photograph in grey, with each face framed in the colour of its loss, and what was estimated of it.

    Args:
        pixels: The photograph, RGB, 8-bit levels.
        faces: As the report of `codeprior restore` has them: `box`, `cycles`, `side`, `damage`.
    """
    grey = Image.fromarray(pixels).convert("L").convert("RGB")
    for face in faces:
        if "damage" not in face:
            continue
        # half of the pixels of a side is the highest frequency that a face could hold
        lost = 1 - min(1.0, 2 * face["cycles"] / face["side"])
        red, green, blue = (int(level) for level in to_array(heat(torch.tensor([[lost]])))[0, 0])
        found = face["damage"]
        text = (
            f"detail lost {lost:.0%}\nblur {found['blur']:.1f} px\nreduced {found['reduction']:.1f} x\n"
            f"noise {found['noise']:.1f}\nJPEG {found['quality']:.0f}"
        )
        _frame(grey, face["box"], text, (red, green, blue), below=True)
    return np.asarray(grey)


def _frame(picture: Image.Image, box: Any, text: str, colour: tuple[int, int, int], *, below: bool = False) -> None:
    pen, wide = ImageDraw.Draw(picture), max(2, round(max(picture.size) / 400))
    font = ImageFont.load_default(max(12, round(max(picture.size) / 45)))
    left, top, right, bottom = (round(float(value)) for value in box)
    pen.rectangle((left, top, right, bottom), outline=colour, width=wide)
    start = bottom if below else top
    bounds = pen.multiline_textbbox((left, start), text, font=font)
    pen.rectangle((left, start, bounds[2] + wide, bounds[3] + wide), fill=colour)
    ink = "white" if sum(colour) < 3 * 128 else "black"
    pen.multiline_text((left + wide / 2, start), text, fill=ink, font=font)


def _sentence(face: Mapping[str, Any]) -> str:
    if "decision" not in face:
        return "restored" if face["restored"] else "not chosen"
    doubt = f"; guessed {face['uncertainty']:.0%}" if "uncertainty" in face else ""
    return f"{face['decision']}: {face['reason']}{doubt}"


def _worked(job: Job, worker: Worker) -> dict[str, Any]:
    prepared = worker.prepare(job)
    crops = [prepared.crops[at].image for at in prepared.asked]
    size = worker.restorer.size
    faces = torch.stack(crops) if crops else torch.zeros(0, 3, size, size)
    return worker.finish(job, prepared, worker.restore(faces, prepared.fidelities))


def _named(weights: Sequence[str]) -> dict[str, str]:
    """Gives the names on the page: the family where the library embeds the weights, else the file's name."""
    embedded = {name: family.name for family in installed_families() for name in family.embedded}
    names = {}
    for word in weights:
        if word not in embedded and not Path(word).is_file():
            raise FileNotFoundError(f"{word} is no weights file, and no embedded weights have that name.")
        name = f"{embedded[word]}: {word}" if word in embedded else Path(word).name
        names[name if name not in names else word] = word
    return names


def _eyes(face: Face) -> float:
    return float(np.linalg.norm(face.points[1] - face.points[0]))


def _without_folder(error: Exception, path: Path) -> str:
    """Gives what is wrong with a file without where it lies: that is the server's business."""
    return reason_of(error).removeprefix(f"{path}: ").replace(f"{path.parent}/", "").removeprefix(f"{path.name}: ")
