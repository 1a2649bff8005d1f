"""The few operations on files of which checkpoints are made; after each, the disk holds the old state or the new.

They go through `os` one by one, so that the tests can kill a save at every single one.
"""

import os
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Writes a new file and waits until it is on the disk.

    Raises:
        OSError: It exists, or the disk is full, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, each known to the one above."""
    if not folder.is_dir():
        make_folder(folder.parent)
        os.mkdir(folder)
        sync(folder.parent)


def remove(place: Path) -> None:
    """Removes a folder of files; half of it is never seen under its name."""
    gone = place.with_name(f".gone-{place.name}")
    clear(gone)
    os.rename(place, gone)
    clear(gone)


def clear(folder: Path) -> None:
    """Removes a folder of files where there is one."""
    if folder.is_dir():
        for path in folder.iterdir():
            os.unlink(path)
        os.rmdir(folder)


def sync(folder: Path) -> None:
    """Waits until what a folder lists is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
