"""Whether decoded pictures fit into memory: FFHQ at 512 px is 55 GB, and every rank of a machine would hold its own.

The memory is that of the machine, or of the container where that is less.
"""

import os
from pathlib import Path

from codeprior.training.data import Source
from codeprior.training.sources import ImageFolder, Joined

SHARE = 0.5
"""Share of the memory that the pictures of all ranks of a machine may take; the rest is for everything else."""
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def hold_where_it_fits(source: Source, *, room: int | None = None) -> str:
    """Decodes the folders of files of a source into memory if they fit, and says what was done.

    Args:
        source: As `open_images` gives it. Shards and raw pixels are read when they are needed in any case.
        room: Bytes that this process may take; without it, `SHARE` of the memory, divided by the machine's ranks.

    Returns:
        A sentence for the log.

    Raises:
        ValueError: They fit, and some file is not a square image that can be read.
    """
    folders = [one for one in _parts(source) if isinstance(one, ImageFolder)]
    if not folders:
        return "pictures are read from shards or raw pixels when they are needed"
    needed = sum(folder.decoded_bytes for folder in folders)
    room = room_for_pictures() if room is None else room
    allowed = f"{needed / 1e9:.3g} GB, and this process may take {room / 1e9:.3g} GB"
    if needed > room:
        return f"pictures are decoded when they are needed; in memory they would take {allowed}"
    for folder in folders:
        folder.hold()
    return f"pictures are decoded once and held in memory; they take {allowed}"


def room_for_pictures() -> int:
    """Gives how many bytes of decoded pictures this process may hold; 0 where the system does not say how much it has.

    The count of the machine's ranks is that of `torchrun`, in `LOCAL_WORLD_SIZE`.
    """
    ranks = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    return int(SHARE * machine_memory() / ranks)


def machine_memory() -> int:
    """Gives the bytes of memory of this machine, or of its container; 0 where the system does not say."""
    found = []
    try:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return 0
    for path in map(Path, _LIMITS):
        text = path.read_text().strip() if path.is_file() else ""
        found += [int(text)] if text.isdigit() else []
    return min(found)


def _parts(source: Source) -> list[Source]:
    return [part for one in source.sources for part in _parts(one)] if isinstance(source, Joined) else [source]
