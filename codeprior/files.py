"""Bytes on disk: the only place where outputs are opened and our own files removed; hashes, and names for printing.

After a crash an output is whole or absent. An existing file is replaced only if that is asked for, and nothing is
written through a link. Unfinished files have names that nobody can predict. Where a call exists on POSIX systems only,
there is another way for the others.
"""

import contextlib
import hashlib
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, BinaryIO

FORMATS = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""Suffixes of pictures that are read and written, in lower case, and Pillow's names of their formats."""
PICTURES = tuple(FORMATS)
"""The suffixes alone."""
ONLY_READ = (".gif", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jxl")
"""Suffixes of pictures that are read and never written."""
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp")
"""Suffixes of files that are taken for videos, in lower case."""
_PARTIAL = ".codeprior-part-"
_OURS = re.compile(r"\.codeprior-part-([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{16}")
_ABANDONED = 24 * 3600  # seconds after which an unfinished file of another machine is removed
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³")}
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_EXTRA = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def create(path: Path, content: bytes) -> None:
    """Writes a new file under its own name and waits until it is on the disk.

    Args:
        path: Where nothing is yet, not even a link.
        content: The bytes.

    Raises:
        OSError: Something is there, or the disk is full or refuses.
    """
    handle = os.open(path, _NEW | _EXTRA, 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: str | Path, content: bytes | str, *, overwrite: bool = False) -> None:
    """Puts bytes under a name in one step: after a crash the file is whole or absent.

    Args:
        path: The name. A link there counts as an existing file, and is replaced itself, never what it points to.
        content: The bytes, or text, written as UTF-8 with what it cannot hold escaped.
        overwrite: Replace what has the name; a file keeps its permissions.

    Raises:
        FileExistsError: Something has the name and `overwrite` is off.
        OSError: The disk refuses; what had the name is untouched.
    """
    with writing(path, overwrite=overwrite) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


@contextlib.contextmanager
def writing(path: str | Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Gives a file to write into; it gets its name when the block ends without an error, and is removed otherwise.

    Args:
        path: The name, as in `write`.
        overwrite: Replace what has the name; a file keeps its permissions.

    Raises:
        FileExistsError: Something has the name and `overwrite` is off.
        OSError: The disk refuses.
    """
    path, mode = Path(path), None
    if os.path.lexists(path):
        if not overwrite:
            raise FileExistsError(17, "exists already and is kept", str(path))
        status = os.lstat(path)
        mode = stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else None
    temporary = path.parent / temporary_name()
    handle = os.open(temporary, _NEW | _EXTRA, 0o666 if mode is None else mode)
    try:
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.chmod(temporary, mode)  # permissions that the old file had and the umask would take away
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path, overwrite=overwrite)
    finally:
        temporary.unlink(missing_ok=True)


def rename(finished: Path, path: Path, *, overwrite: bool = False) -> None:
    """Gives a finished file of ours its name, in one step.

    Args:
        finished: What another library wrote into a folder of our own, on the same disk.
        path: The name. A link there counts as an existing file, and is replaced itself.
        overwrite: Replace what has the name.

    Raises:
        FileExistsError: Something has the name, be it since a moment ago, and `overwrite` is off.
        OSError: The disk refuses.
    """
    if overwrite:
        os.replace(finished, path)
    else:
        _link(finished, path)
    sync(path.parent)


def reopen(path: str | Path, *, text: bool = False) -> IO[Any]:
    """Opens a file that grows over several runs, or makes it; writing begins at its end.

    Args:
        path: A log, a journal or a download that was broken off.
        text: Write text as UTF-8 instead of bytes.

    Raises:
        OSError: It is a link, has a second name elsewhere, is no regular file, or the disk refuses.
    """
    before = os.lstat(path) if os.path.lexists(path) else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        raise OSError(22, f"is {_kind(before)}, and is not written through; remove it or give another name", str(path))
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _EXTRA | getattr(os, "O_NONBLOCK", 0), 0o666)
    after = os.fstat(handle)
    changed = before is not None and (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino)
    if changed or not stat.S_ISREG(after.st_mode) or after.st_nlink > 1:
        os.close(handle)
        raise OSError(22, "is also a file of another name, and is not written through; give another name", str(path))
    return os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace") if text else os.fdopen(handle, "ab+")


def opened(path: str | Path) -> BinaryIO:
    """Opens a regular file for reading; never waits for a pipe.

    Args:
        path: The file; a link to one is followed.

    Raises:
        OSError: It is missing, may not be read, or is no regular file; `strerror` says which.
    """
    # a FIFO without a writer would block a plain open for ever
    extra = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = None if os.name == "nt" else os.open(path, os.O_RDONLY | extra)  # Windows opens no folders
    status = os.stat(path) if handle is None else os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        if handle is not None:
            os.close(handle)
        raise OSError(22, f"is {_kind(status)}, not a regular file", str(path))
    return open(path, "rb") if handle is None else os.fdopen(handle, "rb")


def sha256(file: str | Path | BinaryIO) -> str:
    """Gives the SHA-256 of a regular file, 64 hexadecimal digits.

    Args:
        file: Its path, or the open file, which is left at its beginning.
    """
    if isinstance(file, (str, Path)):
        with opened(file) as here:
            return sha256(here)
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(2**20):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and waits until each is on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):  # another process was first
            os.mkdir(folder)
        sync(folder.parent)


def sync(folder: Path) -> None:
    """Waits until what a folder lists is on the disk, where the system can say so."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        with contextlib.suppress(OSError):  # some network disks know no such call
            os.fsync(handle)
    finally:
        os.close(handle)


def remove_folder(folder: Path, names: Iterable[str]) -> bool:
    """Removes files that we wrote into a folder of our own, and the folder once it is empty.

    Args:
        folder: No link; a link is left alone.
        names: Names of the files, without folders; what is not a regular file is left alone.

    Returns:
        Whether the folder is gone.
    """
    if not folder.is_dir() or folder.is_symlink():
        return not os.path.lexists(folder)
    for name in names:
        path = folder / name
        if path.name == name and os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode):
            os.unlink(path)
    if not any(folder.iterdir()):
        os.rmdir(folder)
        return True
    return False


def temporary_name() -> str:
    """Gives the name of an unfinished file: it holds the process that writes it, and cannot be predicted."""
    return f"{_PARTIAL}{_place()}-{os.getpid()}-{secrets.token_hex(8)}"


def sweep(folder: str | Path) -> int:
    """Removes the unfinished files that killed processes left in a folder, and gives their number.

    Args:
        folder: Where outputs are written. Files of processes that still run stay. Those of other machines and
            containers, whose processes cannot be seen from here, stay for a day. What cannot be removed stays.
    """
    removed = 0
    with contextlib.suppress(OSError):
        for item in os.scandir(folder):
            owner = _OURS.fullmatch(item.name)
            if owner is None or not item.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                if _abandoned(item, *owner.groups()):
                    os.unlink(item.path)
                    removed += 1
    return removed


def printable(name: object) -> str:
    r"""Gives text that prints on one line of any terminal and has no other effect there.

    Args:
        name: A file name, a name from inside a file, or a message that has one.

    Returns:
        Control characters, direction marks and bytes that are not UTF-8 are escaped, as in `\x1b`.
    """
    text = os.fsdecode(name) if isinstance(name, (bytes, os.PathLike)) else str(name)
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def writable_name(name: str) -> str:
    """Gives a file name that every system takes: reserved characters and names, and dots at the end, are changed.

    Args:
        name: One part of a path.
    """
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).rstrip(". ") or "_"
    stem, dot, rest = name.partition(".")
    return f"{stem.rstrip()}_{dot}{rest}" if stem.rstrip().upper() in _RESERVED else name


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(17, "exists already and is kept", str(path)) from None
    except (OSError, AttributeError, NotImplementedError):
        # no hard links here (FAT, some network disks): reserve the name, then replace our own reservation
        os.close(os.open(path, _NEW | _EXTRA, 0o666))
        os.replace(temporary, path)


def _kind(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "a link"
    return "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"


@cache
def _place() -> str:
    """Identifies the processes that can see one another's numbers: a start of the machine, and a container in it."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError, AttributeError):
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def _abandoned(item: os.DirEntry, place: str, process: str) -> bool:
    # asking a process on Windows with `kill` ends it
    if place != _place() or os.name != "posix":
        return time.time() - item.stat(follow_symlinks=False).st_mtime > _ABANDONED
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _escaped(letter: str) -> str:
    number = ord(letter)
    # a byte that is not UTF-8 arrives as one of these
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else repr(letter)[1:-1]
