"""Checkpoints that are whole or absent: a folder of safetensors and a manifest with the sha256 of every file.

Written beside its place, synchronised to the disk, then renamed; a crash at any moment leaves the checkpoint before
it. On the way back every byte is checked, and a damaged checkpoint is passed over for the one before. Nothing is
pickled, so a checkpoint from elsewhere can do nothing but be wrong.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from codeprior import distributed
from codeprior.training.disk import clear, make_folder, remove, sync, write_file
from codeprior.training.state import Frozen, freeze, parts_of, random_state, restore_random_state, thaw

_FORMAT = 1
_PREFIX = "step-"
_MANIFEST = "manifest.json"


class DamagedCheckpoint(ValueError):
    """A checkpoint does not hold the bytes that its manifest promises."""


class Resumed(NamedTuple):
    """What came back from a folder of checkpoints."""

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
        place = self.folder / f"{_PREFIX}{step:08d}"
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
            place = self.folder / f"{_PREFIX}{step:08d}"
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
            return Resumed(step, manifest["notes"], passed, self._restore(place, manifest, saved))
        return None

    def steps(self) -> list[int]:
        """Gives the steps of which there are checkpoints, sound or not, in order."""
        if not self.folder.is_dir():
            return []
        names = [path.name.removeprefix(_PREFIX) for path in self.folder.glob(f"{_PREFIX}*") if path.is_dir()]
        return sorted(int(name) for name in names if name.isdigit())

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
                part.load_state_dict(_read_part(place, manifest, name))
            except (RuntimeError, ValueError) as error:
                raise ValueError(f"{place}: its part {name!r} does not fit the stage: {error}") from error
        same_world = manifest["world"] == distributed.world()
        if same_world:
            restore_random_state(_read_part(place, manifest, f"random-{distributed.rank()}"))
        return same_world

    def _write_and_prune(self, place: Path, parts: Mapping[str, Frozen], facts: dict[str, Any]) -> None:
        self._write(place, parts, facts)
        self._prune()

    def _write(self, place: Path, parts: Mapping[str, Frozen], facts: dict[str, Any]) -> None:
        make_folder(self.folder)
        self._sweep()
        if place.exists():
            if _damage(place) is None:
                return
            remove(place)
        unfinished = self.folder / f".part-{place.name}"
        os.mkdir(unfinished)
        files = {}
        for name, part in parts.items():
            content = to_bytes(part.tensors)
            write_file(unfinished / f"{name}.safetensors", content)
            files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        body = facts | {"format": _FORMAT, "files": files, "skeletons": {n: p.skeleton for n, p in parts.items()}}
        text = json.dumps(body)
        write_file(unfinished / _MANIFEST, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n".encode())
        sync(unfinished)
        os.rename(unfinished, place)
        sync(self.folder)
        self._sound[place.name] = facts["score"]

    def _prune(self) -> None:
        places = [self.folder / f"{_PREFIX}{step:08d}" for step in reversed(self.steps())]
        for place in places:
            if place.name not in self._sound and _damage(place) is None:
                self._sound[place.name] = read_manifest(place).get("score")
        sound = [place for place in places if place.name in self._sound]
        scored = sorted((score, place.name) for place in sound if (score := self._sound[place.name]) is not None)
        stays = {place.name for place in sound[: self.keep]} | {name for _, name in scored[: self.best]}
        oldest = sound[: self.keep][-1].name
        for place in places:
            lasting = self.keep_every and int(place.name.removeprefix(_PREFIX)) % self.keep_every == 0
            # what is damaged goes only when enough sound ones are newer
            if place.name not in stays and not lasting and place.name < oldest:
                remove(place)
                self._sound.pop(place.name, None)

    def _sweep(self) -> None:
        for litter in [*self.folder.glob(f".part-{_PREFIX}*"), *self.folder.glob(f".gone-{_PREFIX}*")]:
            clear(litter)


def read_manifest(place: Path) -> dict[str, Any]:
    """Gives the manifest of a checkpoint.

    Raises:
        DamagedCheckpoint: It is missing, or not the one that was written.
    """
    try:
        digest, text, rest = (place / _MANIFEST).read_bytes().split(b"\n")
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"{place}: the manifest cannot be read: {error}") from error
    if rest or hashlib.sha256(text).hexdigest().encode() != digest:
        raise DamagedCheckpoint(f"{place}: the manifest is not the one that was written")
    manifest = json.loads(text)
    if manifest["format"] != _FORMAT:
        raise ValueError(
            f"{place}: expected checkpoint format {_FORMAT}, got {manifest['format']}; use the version that wrote it."
        )
    return manifest


def verify(place: Path) -> None:
    """Checks every byte of a checkpoint.

    Raises:
        DamagedCheckpoint: Some file is missing, or not the one that was written; the text names it.
    """
    for name in (manifest := read_manifest(place))["files"]:
        _read_checked(place, manifest, name)


def _damage(place: Path) -> str | None:
    try:
        verify(place)
    except DamagedCheckpoint as error:
        return str(error)
    return None


def _read_checked(place: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    path, promised = place / f"{name}.safetensors", manifest["files"][name]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: cannot be read: {error}") from error
    if len(content) != promised["bytes"]:
        raise DamagedCheckpoint(f"{path}: expected {promised['bytes']} bytes, got {len(content)}")
    if hashlib.sha256(content).hexdigest() != promised["sha256"]:
        raise DamagedCheckpoint(f"{path}: the sha256 is not the one of the manifest")
    return content


def _read_part(place: Path, manifest: Mapping[str, Any], name: str) -> Any:
    try:
        tensors = from_bytes(_read_checked(place, manifest, name))
    except SafetensorError as error:
        raise DamagedCheckpoint(f"{place / name}.safetensors: {error}") from error
    return thaw(Frozen(tensors, manifest["skeletons"][name]))
