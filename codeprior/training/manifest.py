"""One checkpoint on the disk: the manifest that lists its files, every byte checked against it, and its removal.

Only files that a manifest lists are removed, and only in a folder that is no link; other files stay.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes

from codeprior import files
from codeprior.training.state import Frozen, thaw

FORMAT = 1
MANIFEST = "manifest.json"


class DamagedCheckpoint(ValueError):
    """A checkpoint does not hold the bytes that its manifest lists."""


def read_manifest(place: Path) -> dict[str, Any]:
    """Gives the manifest of a checkpoint.

    Raises:
        DamagedCheckpoint: It is missing, or not the one that was written.
    """
    try:
        digest, text, rest = (place / MANIFEST).read_bytes().split(b"\n")
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"{place}: the manifest cannot be read: {error}") from error
    if rest or hashlib.sha256(text).hexdigest().encode() != digest:
        raise DamagedCheckpoint(f"{place}: the manifest is not the one that was written")
    try:
        manifest = json.loads(text)
        other = manifest["format"] != FORMAT
        sound = other or _is_sound(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        other = sound = False
    if not sound:
        raise DamagedCheckpoint(f"{place}: the manifest does not describe a checkpoint")
    if other:
        raise ValueError(
            f"{place}: expected checkpoint format {FORMAT}, got {manifest['format']!r}; use the version that wrote it."
        )
    return manifest


def verify(place: Path) -> None:
    """Checks every byte of a checkpoint.

    Raises:
        DamagedCheckpoint: Some file is missing, or not the one that was written; the text names it.
    """
    for name in (manifest := read_manifest(place))["files"]:
        _read_checked(place, manifest, name)


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    """Says whether a manifest has every entry that is read later, and names no file outside its folder."""
    written, skeletons, score = manifest["files"], manifest["skeletons"], manifest["score"]
    return (
        isinstance(manifest["notes"], dict)
        and type(manifest["step"]) is type(manifest["world"]) is int
        and (score is None or type(score) in (int, float))
        and isinstance(skeletons, dict)
        and skeletons.keys() == written.keys()
        and all(os.path.basename(name) == name and name[:1] not in ("", ".") for name in written)
        and all(type(one["bytes"]) is int and isinstance(one["sha256"], str) for one in written.values())
    )


def is_ours(place: Path) -> bool:
    """Says whether a folder is a checkpoint that was written here: no link, and with a manifest, whatever its bytes."""
    try:
        return not place.is_symlink() and bool(read_manifest(place))
    except ValueError:
        return False


def remove(place: Path) -> None:
    """Removes a checkpoint; half of it never has its name. A folder that is not ours is renamed instead."""
    if not is_ours(place):
        os.rename(place, beside(place, "kept-"))
        return
    names = [MANIFEST, *(f"{name}.safetensors" for name in read_manifest(place)["files"])]
    gone = beside(place, ".gone-")
    os.rename(place, gone)
    if not files.remove_folder(gone, names):
        os.rename(gone, beside(place, "kept-"))


def beside(place: Path, prefix: str) -> Path:
    return place.with_name(f"{prefix}{place.name}-{secrets.token_hex(8)}")


def written_parts(folder: Path) -> list[str]:
    """Gives the files of an unfinished folder that belong to a checkpoint."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path.name for path in folder.iterdir() if path.suffix == ".safetensors" or path.name == MANIFEST]


def damage_of(place: Path) -> str | None:
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


def read_part(place: Path, manifest: Mapping[str, Any], name: str) -> Any:
    try:
        tensors = from_bytes(_read_checked(place, manifest, name))
        return thaw(Frozen(tensors, manifest["skeletons"][name]))
    except (SafetensorError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{place / name}.safetensors: {error!r}") from error
