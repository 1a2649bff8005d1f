"""A weights file fetched on request: over HTTPS, into a folder that the caller names, checked, resumable, once."""

import os
import re
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from codeprior.files import rename, reopen, writable_name, write
from codeprior.files import sha256 as sha256_of

_PIECE = 2**20
_LONGEST = 16 * 2**30
_LOCAL = ("localhost", "127.0.0.1")
_SUM = re.compile(r"[0-9a-fA-F]{64}")


def fetch(
    address: str,
    folder: str | Path,
    *,
    sha256: str | None,
    offline: bool = False,
    timeout: float = 30.0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Gives the path of a file from the network, downloading it only where it is not there yet.

    What has arrived is kept under a partial name and continued after an interruption; the file gets its name only when
    its SHA-256 is right. Nothing outside `folder` is written.

    Args:
        address: Where it is, `https://…`; also `http://localhost` and `http://127.0.0.1`.
        folder: An existing folder, in which the file is kept.
        sha256: What the SHA-256 must be, 64 hexadecimal digits. None for a file whose publisher gives none: what came
            cannot be verified, and its SHA-256 is kept beside it in `NAME.sha256`, which later calls check against. An
            interrupted one is begun anew, since nothing would show that its parts belong together.
        offline: Refuse to use the network; a file that is there already is still checked and given.
        timeout: Longest silence of the server, seconds.
        progress: Called with the bytes that are there and the bytes that there will be, or None where the server does
            not say.

    Raises:
        ValueError: The address, the checksum or the folder is unusable, or what came has another checksum.
        ConnectionError: The file is not there and may not be fetched, or the server cannot give it.
    """
    folder = Path(folder)
    if sha256 is not None and not _SUM.fullmatch(sha256):
        raise ValueError(f"fetch: expected a SHA-256 of 64 hexadecimal digits, got {sha256!r}.")
    parts = urlsplit(address)
    local = parts.scheme == "http" and parts.hostname in _LOCAL
    name = os.path.basename(parts.path)
    if not (parts.scheme == "https" or local) or writable_name(name) != name or name.startswith("."):
        raise ValueError(f"fetch: expected an address https://…/NAME, got {address!r}.")
    if not folder.is_dir():
        raise ValueError(f"fetch: {folder} is not a folder; make it first, nothing is written elsewhere.")
    target = folder / name
    expected = recorded_sum(target) if sha256 is None else sha256.lower()
    if not expected and os.path.lexists(_record(target)):
        raise ValueError(f"fetch: {_record(target)} holds no SHA-256; it is kept, move it away or pass sha256.")
    if os.path.lexists(target):
        return _checked(target, expected)
    if offline:
        raise ConnectionError(f"fetch: {target} is not there and offline is set; fetch {address} by other means.")
    partial = folder / f".{name}.{expected[:16]}.part"  # known, so that a later call goes on with it
    if not expected:
        partial.unlink(missing_ok=True)
    try:
        file = cast(BinaryIO, reopen(partial))
    except OSError as error:
        raise ValueError(f"fetch: {partial} {error.strerror}.") from error
    try:
        with file:
            _receive(address, file, timeout, progress)
            found = sha256_of(file)
    finally:
        if not partial.stat().st_size:
            partial.unlink()
    if expected and found != expected:
        partial.unlink()
        raise ValueError(f"fetch: {address} gave a file with SHA-256 {found}, expected {expected}; it was removed.")
    try:
        rename(partial, target)
    except FileExistsError:  # since a moment ago
        return _checked(target, expected or found)
    finally:
        partial.unlink(missing_ok=True)
    if sha256 is None:
        write(_record(target), f"{found}  {name}\n")
    return target


def recorded_sum(target: str | Path) -> str:
    """Gives the SHA-256 that was recorded when an unverified file was fetched; empty where there is none.

    Args:
        target: The file; its record lies beside it as `NAME.sha256`, as `sha256sum` writes it.
    """
    try:
        found = _record(Path(target)).read_bytes()[:64].decode("ascii").lower()
    except (OSError, UnicodeDecodeError):
        return ""
    return found if _SUM.fullmatch(found) else ""


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _checked(target: Path, expected: str) -> Path:
    found = sha256_of(target)
    if not expected:
        write(_record(target), f"{found}  {target.name}\n")
    elif found != expected:
        raise ValueError(f"fetch: {target} has SHA-256 {found}, expected {expected}; remove it to fetch it again.")
    return target


def _receive(address: str, file: BinaryIO, timeout: float, progress: Callable[[int, int | None], None] | None) -> None:
    there = file.seek(0, os.SEEK_END)
    request = Request(address, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        with build_opener(_SafeRedirects).open(request, timeout=timeout) as answer:
            begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
            if answer.status != 206:
                there = 0  # the server begins again
            elif begins and int(begins[1]) != there:
                raise OSError("it sends another part than was asked for")
            length = answer.headers.get("Content-Length") or ""
            total = there + int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None
            _write(answer, file, there, total, progress)
    except HTTPError as error:
        if error.code == 416 and there:  # all of it is there already
            return
        raise ConnectionError(f"fetch: {address} answered {error.code} {error.reason}.") from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"fetch: {address} broke off ({reason!s}); what came is kept, call again.") from error


class _SafeRedirects(HTTPRedirectHandler):
    """Follows a redirect to https only, or from this machine to this machine."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        local = all(one.scheme == "http" and one.hostname in _LOCAL for one in (old, new))
        if new.scheme != "https" and not local:
            raise URLError(f"it redirects to {new.scheme}://{new.hostname}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _write(
    answer: Any, file: BinaryIO, there: int, total: int | None, progress: Callable[[int, int | None], None] | None
) -> None:
    file.truncate(there)
    while piece := answer.read(_PIECE):
        there += len(piece)
        if there > _LONGEST:
            raise OSError(f"more than {_LONGEST:,} bytes")
        file.write(piece)
        if progress:
            progress(there, total)
    file.flush()
    os.fsync(file.fileno())
    if total is not None and there < total:
        raise OSError(f"{there:,} of {total:,} bytes came")
