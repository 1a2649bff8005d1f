"""Images in tar files of some gigabytes, as WebDataset lays them out, with a list of where each image begins.

The list makes them a `Source` like any other: the sample at a step is read with one `pread`, no shard is read from its
beginning, and a restart needs no state. Other programs read the same tar files without the list.
"""

import hashlib
import io
import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from codeprior import files
from codeprior.training.index import described, is_sound, read_lines, write_index
from codeprior.training.pictures import fitted

SHARDS = "shards.jsonl"
"""Name of the list, in the folder of the tar files."""
_FORMAT = "codeprior shards 1"
_OPEN = 64


class Member(NamedTuple):
    """One image in a tar file."""

    shard: str
    """Name of the tar file, in the folder of the list."""
    offset: int
    """Where its bytes begin in the tar file."""
    bytes: int
    sha256: str
    name: str
    width: int
    """Pixels."""
    height: int
    """Pixels."""


class ImageShards:
    """The images of a folder of tar files.

    Args:
        folder: Holds the tar files and their list, see `index_shards`.
        size: Height and width, pixels. Images of another size are resized (antialiased bicubic).

    Raises:
        ValueError: There is no list, it was damaged, or a tar file has another length than when it was listed.
    """

    def __init__(self, folder: str | Path, *, size: int):
        self.folder, self.size = Path(folder), size
        if not (self.folder / SHARDS).exists():
            raise ValueError(f"ImageShards: {self.folder} has no {SHARDS}; make it with `codeprior data shards`.")
        self.members = read_lines(self.folder / SHARDS, Member, format=_FORMAT)
        ends: dict[str, int] = {}
        for member in self.members:
            ends[member.shard] = max(ends.get(member.shard, 0), member.offset + member.bytes)
        for shard, end in ends.items():
            path = self.folder / shard
            if not path.is_file() or path.stat().st_size < end:
                raise ValueError(f"ImageShards: {path} is missing or shorter than its list says; copy it again.")
        listing = [size, [member.sha256 for member in self.members]]
        self.fingerprint = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
        self._open: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        """Says which image that is."""
        return f"{self.folder / self.members[index].shard}: {self.members[index].name}"

    def image(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """Gives one image, RGB, 8-bit levels.

        Raises:
            ValueError: Its bytes are not those that were listed.
        """
        member = self.members[index]
        # `pread` does not move the file's position, so loader processes can share files that were opened before them
        content = self._read(member)
        if hashlib.sha256(content).hexdigest() != member.sha256:
            raise ValueError(f"{self.name(index)} is not the image that was listed")
        return fitted(content, self.name(index), self.size)

    def close(self) -> None:
        """Closes the tar files; they open again when they are needed."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def _read(self, member: Member) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor(member.shard), member.bytes, member.offset)
        with files.opened(self.folder / member.shard) as file:
            file.seek(member.offset)
            return file.read(member.bytes)

    def _descriptor(self, shard: str) -> int:
        if shard not in self._open:
            if len(self._open) >= _OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = os.open(self.folder / shard, os.O_RDONLY)
        self._open.move_to_end(shard)
        return self._open[shard]


def write_shards(folder: str | Path, out: str | Path, *, shard_bytes: int = 2**30) -> list[Path]:
    """Packs the listed images of a folder into tar files, bytes as they are, and lists them.

    Args:
        folder: Holds `index.jsonl`, see `check_images`.
        out: Where the tar files go; made if needed.
        shard_bytes: A tar file is closed when it holds this many bytes.

    Returns:
        The tar files. The same images make the same bytes.

    Raises:
        ValueError: A file is not the one that was listed.
        FileExistsError: A tar file of that name is there already.
    """
    from codeprior.training.index import INDEX, read_index

    root, out = Path(folder), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    entries, written = read_index(root / INDEX), []
    while entries:
        path = out / f"shard-{len(written):06d}.tar"
        if os.path.lexists(path):
            raise FileExistsError(f"write_shards: {path} exists already and is kept; choose another folder.")
        with files.writing(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            while entries and file.tell() < shard_bytes:
                entry = entries.pop(0)
                content = _bytes_of(root / entry.name)
                if hashlib.sha256(content).hexdigest() != entry.sha256:
                    raise ValueError(f"write_shards: {root / entry.name} is not the file that was listed; check again.")
                header = tarfile.TarInfo(_member_name(entry.name))
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
        written.append(path)
    index_shards(out)
    return written


def index_shards(folder: str | Path, *, square: bool = True) -> dict[str, str]:
    """Lists the images of a folder of tar files, whoever made them, after reading each completely.

    Args:
        folder: Holds `*.tar`; the list is written beside them.
        square: Refuse images that are not square.

    Returns:
        Name to reason, of the images that cannot be used; they are not listed.

    Raises:
        ValueError: There is no tar file, one is damaged, or none holds an image.
    """
    folder = Path(folder)
    members: list[Member] = []
    refused: dict[str, str] = {}
    for path in sorted(path for path in folder.glob("*.tar") if path.name[0] != "."):
        for found in _members(path, square):
            if isinstance(found, Member):
                members.append(found)
            else:
                refused[found[0]] = found[1]
    if not members:
        raise ValueError(f"index_shards: expected tar files with images, found no image in {folder}/*.tar.")
    write_index(folder / SHARDS, members, format=_FORMAT)
    return refused


def _members(path: Path, square: bool) -> Iterator[Member | tuple[str, str]]:
    from codeprior.photos.containers import MAX_BYTES
    from codeprior.photos.files import PhotoError
    from codeprior.photos.formats import kind

    try:
        with files.opened(path) as file, tarfile.open(fileobj=_Bounded(file), mode="r:") as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
            for header in tar:
                if not header.isreg():
                    continue
                start = os.path.getsize(path) - header.offset_data
                if header.issparse() or header.size > min(MAX_BYTES, start):
                    yield f"{path.name}: {header.name}", "is sparse, too large, or claims bytes that are not there"
                    continue
                content = tar.extractfile(header).read()  # pyright: ignore[reportOptionalMemberAccess]
                if not kind(content[:512]).picture:
                    continue  # tar files may also hold captions and labels
                try:
                    one = described(header.name, content, square=square)
                    member = Member(path.name, header.offset_data, one.bytes, one.sha256, one.name, *one[3:])
                    yield member if is_sound(member) else (f"{path.name}: {header.name}", "has a name outside its tar")
                except PhotoError as error:
                    yield f"{path.name}: {header.name}", error.reason
    except (tarfile.TarError, ValueError, OverflowError, EOFError, MemoryError) as error:
        raise ValueError(f"index_shards: {path} is damaged: {error}") from error


class _Bounded:
    """A file that refuses to read more bytes than it has, because a damaged header may claim terabytes."""

    def __init__(self, file: BinaryIO):
        self._file, self._size = file, file.seek(0, 2)
        self.seek, self.tell = file.seek, file.tell
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size if size < 0 else min(size, self._size))


def _bytes_of(path: Path) -> bytes:
    with files.opened(path) as file:
        return file.read()


def _member_name(name: str) -> str:
    # a sample's key ends at the first dot of its last part, so further dots would make keys of one stem collide
    stem, dot, ending = name.rpartition(".")
    return (stem.replace(".", "_") + dot + ending) if dot else name
