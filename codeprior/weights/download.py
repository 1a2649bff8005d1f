"""A weights file fetched on request: over HTTPS, into a folder that the caller names, checked, resumable, once."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

_PIECE = 2**20
_LONGEST = 16 * 2**30


def fetch(
    address: str,
    folder: str | Path,
    *,
    sha256: str,
    offline: bool = False,
    timeout: float = 30.0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Gives the path of a file from the network, downloading it only where it is not there yet.

    What arrives is kept under a partial name, gone on with after an interruption, and takes its name only when its
    SHA-256 is right. Nothing outside `folder` is written.

    Args:
        address: Where it is, `https://…`; also `http://localhost` and `http://127.0.0.1`.
        folder: An existing folder, which becomes the file's.
        sha256: What the SHA-256 must be, 64 hexadecimal digits.
        offline: Refuse to use the network; a file that is there already is still checked and given.
        timeout: Longest silence of the server, seconds.
        progress: Called with the bytes that are there and the bytes that there will be, or None where the server does
            not say.

    Raises:
        ValueError: The address, the checksum or the folder is unusable, or what came has another checksum.
        ConnectionError: The file is not there and may not be fetched, or the server cannot give it.
    """
    folder = Path(folder)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"fetch: expected a SHA-256 of 64 hexadecimal digits, got {sha256!r}.")
    parts = urlsplit(address)
    local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1")
    name = os.path.basename(parts.path)
    if not (parts.scheme == "https" or local) or not name or name.startswith("."):
        raise ValueError(f"fetch: expected an address https://…/NAME, got {address!r}.")
    if not folder.is_dir():
        raise ValueError(f"fetch: {folder} is not a folder; make it first, nothing is written elsewhere.")
    target, expected = folder / name, sha256.lower()
    if target.exists():
        found = _sum(target)
        if found != expected:
            raise ValueError(f"fetch: {target} has SHA-256 {found}, expected {expected}; remove it to fetch it again.")
        return target
    if offline:
        raise ConnectionError(f"fetch: {target} is not there and offline is set; fetch {address} by other means.")
    partial = folder / f".{name}.{expected[:16]}.part"
    _receive(address, partial, timeout, progress)
    found = _sum(partial)
    if found != expected:
        partial.unlink()
        raise ValueError(f"fetch: {address} gave a file with SHA-256 {found}, expected {expected}; it was removed.")
    os.replace(partial, target)
    return target


def _receive(address: str, partial: Path, timeout: float, progress: Callable[[int, int | None], None] | None) -> None:
    there = partial.stat().st_size if partial.exists() else 0
    request = Request(address, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        with urlopen(request, timeout=timeout) as answer:
            if answer.status != 206:
                there = 0  # the server begins again
            length = answer.headers.get("Content-Length")
            total = there + int(length) if length and length.isdecimal() else None
            _write(answer, partial, there, total, progress)
    except HTTPError as error:
        if error.code == 416:  # all of it is there already
            return
        raise ConnectionError(f"fetch: {address} answered {error.code} {error.reason}.") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"fetch: {address} broke off ({reason}); what came is kept, call again.") from error


def _write(
    answer: Any, partial: Path, there: int, total: int | None, progress: Callable[[int, int | None], None] | None
) -> None:
    with partial.open("r+b" if there else "wb") as file:
        file.seek(there)
        while piece := answer.read(_PIECE):
            there += len(piece)
            if there > _LONGEST:
                raise OSError(f"more than {_LONGEST:,} bytes")
            file.write(piece)
            if progress:
                progress(there, total)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    if total is not None and there < total:
        raise OSError(f"{there:,} of {total:,} bytes came")


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
