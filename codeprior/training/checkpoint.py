"""Checkpoints that are whole or absent: a folder of safetensors and a manifest with the sha256 of every file.

A checkpoint is written under another name, synchronised to the disk, then renamed; after a crash at any moment the
checkpoint before it is still there. On reading, every byte is checked; a damaged checkpoint is skipped and the one
before it is used. Nothing is pickled, so a checkpoint from elsewhere cannot run code.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save as to_bytes

from codeprior import distributed, files
from codeprior.training.manifest import (
    FORMAT,
    MANIFEST,
    DamagedCheckpoint,
    beside,
    damage_of,
    is_ours,
    read_manifest,
    read_part,
    remove,
    verify,
    written_parts,
)
from codeprior.training.state import Frozen, freeze, parts_of, random_state, restore_random_state

_PREFIX = "step-"
_UNFINISHED = re.compile(r"\.(?:part|gone)-step-[0-9]{8,18}(?:-[0-9a-f]{16})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """When checkpoints are written, which of them stay, and how they are written.

    One more is written at the beginning and at the end of a run, and when it is stopped.

    Raises:
        ValueError: The best are to stay, and nothing says by which figure.
    """

    every: int = 1000  # steps between them; 0 for none by steps
    minutes: float | None = None  # between them, beside those by steps
    keep: int = 3  # how many of the newest stay
    keep_every: int = 0  # those at multiples of this many steps stay for good; 0 for none
    best: int = 0  # how many of those with the lowest score stay too
    best_by: str | None = None  # the score: a figure of `validate`, or without that a metric of the log
    background: bool = False  # whether they are written while training goes on

    def __post_init__(self) -> None:
        if self.best > 0 and self.best_by is None:
            raise ValueError(
                f"Saving: best={self.best} needs best_by, the figure that is lowest for the best; the option --best of "
                "a command needs --validation."
            )

    def due(self, step: int) -> bool:
        """Says whether a checkpoint is due after so many steps, by their number alone.

        Args:
            step: Steps made.
        """
        return self.every > 0 and step % self.every == 0

    def overdue(self, seconds: float) -> bool:
        """Says whether a checkpoint is due by time.

        Args:
            seconds: Since the one before.
        """
        return self.minutes is not None and seconds >= self.minutes * 60

    def checkpoints(self, folder: str | Path) -> "Checkpoints":
        """Gives the checkpoints of a run, kept as is said here.

        Args:
            folder: Where they lie.

        Raises:
            ValueError: Fewer than one is to be kept.
        """
        return Checkpoints(
            folder, keep=self.keep, keep_every=self.keep_every, best=self.best, background=self.background
        )


class Resumed(NamedTuple):
    """What was restored from a folder of checkpoints."""

    step: int
    """How many steps had been made."""
    notes: dict[str, Any]
    """What the caller had added to the checkpoint."""
    passed: list[str]
    """Newer checkpoints that were damaged, each with the reason."""
    bitwise: bool
    """Whether the generators were restored too; not so on another number of ranks."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they lie; made when the first is saved. All ranks must see the same folder.
        keep: How many of the newest sound ones stay, at least 1.
        keep_every: Those at multiples of this many steps stay for good; 0 for none.
        best: How many of those with the lowest scores stay too.
        background: Whether files are written while training goes on; the state is copied first.

    Raises:
        ValueError: Fewer than one is to be kept.
    """

    def __init__(
        self, folder: str | Path, *, keep: int = 3, keep_every: int = 0, best: int = 0, background: bool = False
    ):
        if keep < 1:
            raise ValueError(f"Checkpoints: expected to keep at least 1, got {keep}.")
        self.folder, self.keep, self.keep_every, self.best = Path(folder), keep, keep_every, best
        self._sound: dict[str, float | None] = {}
        self._pool = ThreadPoolExecutor(1) if background else None
        self._pending: Future[None] | None = None

    def save(
        self,
        step: int,
        saved: Mapping[str, Any],
        *,
        notes: Mapping[str, Any] | None = None,
        score: float | None = None,
    ) -> Path:
        """Writes the state after `step` steps; every rank must call it, rank 0 writes.

        Args:
            step: Number of steps made.
            saved: Modules, optimisers, or anything else with `state_dict`, by name.
            notes: JSON values to keep with it.
            score: How good it is; lower is better.

        Returns:
            The folder of the checkpoint.

        Raises:
            OSError: It, or the one before it in the background, could not be written; those before are untouched.
        """
        generators = random_state()
        place = self._place(step)
        if distributed.rank() == 0:
            parts = {name: freeze(part.state_dict()) for name, part in parts_of(saved).items()}
            parts |= {f"random-{rank}": freeze(state) for rank, state in enumerate(generators)}
            facts = {"step": step, "world": distributed.world(), "notes": dict(notes or {}), "score": score}
            self.wait()
            if self._pool is None:
                self._write_and_prune(place, parts, facts)
            else:
                self._pending = self._pool.submit(self._write_and_prune, place, parts, facts)
        return place

    def wait(self) -> None:
        """Waits until what was saved is on the disk.

        Raises:
            OSError: It could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def resume(self, saved: Mapping[str, Any]) -> Resumed | None:
        """Restores the newest sound checkpoint into the parts; every rank must call it.

        Args:
            saved: The same names as were saved.

        Returns:
            What came back, or None where there is no sound checkpoint.

        Raises:
            ValueError: A sound checkpoint holds other parts than are asked for, or parts of another shape.
        """
        steps, passed = self.steps(), []
        for step in reversed(steps):
            place = self._place(step)
            reason = ""
            if distributed.rank() == 0:
                try:
                    verify(place)
                except DamagedCheckpoint as error:
                    reason = str(error)
            if distributed.any_rank(bool(reason)):
                passed.append(reason)
                continue
            manifest = read_manifest(place)
            try:
                return Resumed(step, manifest["notes"], passed, self._restore(place, manifest, saved))
            except DamagedCheckpoint as error:  # its bytes are as they were written, but do not describe a state
                passed.append(str(error))
        return None

    def steps(self) -> list[int]:
        """Gives the steps of which there are checkpoints, sound or not, in order."""
        if not self.folder.is_dir():
            return []
        names = [path.name for path in self.folder.iterdir() if re.fullmatch(r"step-[0-9]{8,18}", path.name)]
        steps = sorted(int(name.removeprefix(_PREFIX)) for name in names)
        return [step for step in steps if self._place(step).is_dir()]

    def _place(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:08d}"

    def _restore(self, place: Path, manifest: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
        parts = parts_of(saved)
        held = {name for name in manifest["skeletons"] if not name.startswith("random-")}
        # statistics that only inform begin anew where an older checkpoint lacks them
        anew = {name for name, part in parts.items() if name not in held and getattr(part, "begins_anew", False)}
        if held != set(parts) - anew:
            raise ValueError(
                f"{place}: expected the parts {', '.join(sorted(parts))}, it holds {', '.join(sorted(held))}; "
                "resume with the stage that wrote it, or train into another folder."
            )
        for name, part in parts.items():
            if name in anew:
                continue
            try:
                part.load_state_dict(read_part(place, manifest, name))
            except DamagedCheckpoint:
                raise
            except (RuntimeError, ValueError) as error:
                raise ValueError(f"{place}: its part {name!r} does not fit the stage: {error}") from error
        same_world = manifest["world"] == distributed.world()
        if same_world:
            restore_random_state(read_part(place, manifest, f"random-{distributed.rank()}"))
        return same_world

    def _write_and_prune(self, place: Path, parts: Mapping[str, Frozen], facts: dict[str, Any]) -> None:
        self._write(place, parts, facts)
        self._prune()

    def _write(self, place: Path, parts: Mapping[str, Frozen], facts: dict[str, Any]) -> None:
        files.make_folder(self.folder)
        self._sweep()
        if os.path.lexists(place):
            if damage_of(place) is None:
                return
            remove(place)
        unfinished = beside(place, ".part-")
        os.mkdir(unfinished)
        written = {}
        for name, part in parts.items():
            content = to_bytes(part.tensors)
            files.create(unfinished / f"{name}.safetensors", content)
            written[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        body = facts | {"format": FORMAT, "files": written, "skeletons": {n: p.skeleton for n, p in parts.items()}}
        text = json.dumps(body)
        files.create(unfinished / MANIFEST, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n".encode())
        files.sync(unfinished)
        os.rename(unfinished, place)
        files.sync(self.folder)
        self._sound[place.name] = facts["score"]

    def _prune(self) -> None:
        places = [self._place(step) for step in reversed(self.steps())]
        for place in places:
            if place.name not in self._sound and damage_of(place) is None:
                self._sound[place.name] = read_manifest(place).get("score")
        sound = [place for place in places if place.name in self._sound]
        scored = sorted((score, place.name) for place in sound if (score := self._sound[place.name]) is not None)
        stays = {place.name for place in sound[: self.keep]} | {name for _, name in scored[: self.best]}
        oldest = sound[: self.keep][-1].name
        for place in places:
            lasting = self.keep_every and int(place.name.removeprefix(_PREFIX)) % self.keep_every == 0
            # damaged ones are removed only when enough sound ones are newer
            if place.name not in stays and not lasting and place.name < oldest and is_ours(place):
                remove(place)
                self._sound.pop(place.name, None)

    def _sweep(self) -> None:
        for litter in self.folder.iterdir():
            if _UNFINISHED.fullmatch(litter.name):
                files.remove_folder(litter, written_parts(litter))
