"""C++ sources of the ops: the library that a wheel brought, else one compiled on first use, kept in the user's cache.

The folder is `$CODEPRIOR_CACHE`, else `$XDG_CACHE_HOME/codeprior`, else `~/.cache/codeprior`; `CODEPRIOR_CACHE=off`, or
an empty one, compiles nothing. A library runs with the user's rights, so the folder must belong to the user, and nobody
else may write into it. The name of a file holds a hash of all that it was made from and a hash of its own bytes, so a
stale or damaged file is not found, and is compiled again.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from codeprior.kernels import _built
from codeprior.kernels.ops import OPS, ImplUnavailable

_HERE = os.path.dirname(__file__)
_LOG = logging.getLogger(__name__)
_FLAGS = (*_built.FLAGS, "-march=native")
_COMPILERS = ("c++", "g++", "clang++")
_SECONDS = 600  # a compiler needs a few, and minutes where ten processes share two cores
_UNFINISHED = "compiling-"
_ADDING = {
    "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH",
    "GCC_EXEC_PREFIX", "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "LD_PRELOAD",
}  # fmt: skip


class _Key(NamedTuple):
    source: str  # a string: hashing a new `Path` takes longer than a small lookup
    flags: tuple[str, ...]
    folder: str
    compiler: str


_loaded: dict[_Key, ctypes.CDLL | str] = {}


def compiled(source: Path | str, *flags: str) -> ctypes.CDLL | str:
    """Gives the library of a source file, or the reason why there is none.

    One that came in a wheel is taken as it is; otherwise it is compiled where it is not in the cache yet.

    A compiler that failed is not asked again in this process.

    Args:
        source: A C++ file.
        flags: For the compiler, besides those that optimise for this processor.
    """
    key = _key(source, flags)
    if key not in _loaded:
        _loaded[key] = _library(key)
    return _loaded[key]


def is_compiled(source: Path | str, *flags: str) -> bool:
    """Says whether a source's library was there when this process first looked, or is by now; compiles nothing."""
    key = _key(source, flags)
    return not isinstance(_loaded[key], str) if key in _loaded else _was_there(key)


def why_not(op: str, *, small: bool = False) -> str | None:
    """Gives the reason why an op's C++ cannot run here, or None; compiles it where that pays.

    Args:
        op: Its name in `ops.OPS`.
        small: Whether the problem takes less time than compiling.
    """
    source, flags = _source_of(op)
    if small and not is_compiled(source, *flags):
        return "it is not compiled yet, and compiling takes longer than so small a problem"
    found = compiled(source, *flags)
    return found if isinstance(found, str) else None


def library(op: str) -> ctypes.CDLL:
    """Gives an op's library.

    Raises:
        ImplUnavailable: There is none, and it cannot be compiled.
    """
    source, flags = _source_of(op)
    found = compiled(source, *flags)
    if isinstance(found, str):
        raise ImplUnavailable(f"{op}: the compiled implementation cannot run here: {found}.")
    return found


def _source_of(op: str) -> tuple[str, tuple[str, ...]]:
    known = OPS[op]
    if known.source is None:
        raise ValueError(f"{op} has no C++ source.")
    return os.path.join(_HERE, known.source), known.flags


def folder_of_libraries() -> str:
    """Gives the folder in which compiled code is kept, or the reason why there is none.

    Where the installed package brought libraries for this processor, it is theirs.
    """
    brought = {path.parent.parent for op in OPS if OPS[op].source and (path := _brought(op))}
    if brought:
        return str(brought.pop())
    try:
        return str(_folder(_chosen()))
    except OSError as error:
        return str(error)


def _brought(op: str) -> Path | None:
    source, flags = _source_of(op)
    return _built.find(Path(source), flags)


def _chosen() -> str:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return os.environ.get("CODEPRIOR_CACHE", f"{home}/codeprior")


def _key(source: Path | str, flags: tuple[str, ...]) -> _Key:
    return _Key(str(source), flags, _chosen(), os.environ.get("CXX", ""))


def _library(key: _Key) -> ctypes.CDLL | str:
    try:
        if built := _built.find(Path(key.source), key.flags):
            return ctypes.CDLL(str(built))
        folder, command, name = _place(key)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _why_not_safe(folder) or ctypes.CDLL(
            str(_find(folder, name) or _compile(Path(key.source), command, folder, name))
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)


@functools.cache
def _was_there(key: _Key) -> bool:
    if _built.find(Path(key.source), key.flags):
        return True
    try:
        folder, _, name = _place(key)
        return _why_not_safe(folder) is None and _find(folder, name) is not None
    except (OSError, subprocess.SubprocessError):
        return False


def _place(key: _Key) -> tuple[Path, tuple[str, ...], str]:
    """Gives the folder of a library, the command that makes it, and how its name begins."""
    folder, command = _folder(key.folder), (*_compiler(key.compiler), *_FLAGS, *key.flags)
    return folder, command, _name(Path(key.source), command)


def _folder(chosen: str) -> Path:
    if chosen.strip() in ("", "off"):
        raise OSError("compiling is turned off by CODEPRIOR_CACHE")
    if not hasattr(os, "geteuid"):
        raise OSError("code is compiled on Linux and macOS only")
    return Path(chosen).expanduser().absolute()


def _compiler(named: str) -> tuple[str, ...]:
    found = shlex.split(named) or [path for name in _COMPILERS if (path := shutil.which(name))][:1]
    if not found:
        raise OSError("no C++ compiler is on the path; install one or set CXX")
    return tuple(found)


def _why_not_safe(folder: Path) -> str | None:
    """Gives the reason why somebody else could replace this folder, by its path as given or with links resolved."""
    if reason := _why_not_ours(folder):
        return reason
    # where a path has links, the folders that hold them are checked as well as those that they lead to
    for above in dict.fromkeys([*folder.parents, *folder.resolve().parents]):
        status = above.stat()
        sticky = bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid not in (0, os.geteuid()):
            return f"others could replace {folder}, because {above} belongs to another user"
        if status.st_mode & stat.S_IWOTH and not sticky:
            return f"others could replace {folder}, because everyone may write into {above}"
        if status.st_mode & stat.S_IWGRP and not sticky and not _is_alone_in(status.st_gid):
            return f"others could replace {folder}, because a group may write into {above}"
    for link in [folder, *folder.parents]:
        if link.is_symlink() and link.lstat().st_uid not in (0, os.geteuid()):
            return f"others could replace {folder}, because the link {link} belongs to another user"
    return None


def _is_alone_in(group: int) -> bool:
    """Says whether a group has this user as its only member; many systems make such a group for each user."""
    try:
        import grp
        import pwd

        found, user = grp.getgrgid(group), pwd.getpwuid(os.geteuid())
    except (ImportError, KeyError):
        return False
    return group in (0, user.pw_gid) and found.gr_name in ("root", user.pw_name) and set(found.gr_mem) <= {user.pw_name}


def _why_not_ours(path: Path) -> str | None:
    status = path.stat()
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return f"{path} is no file"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to another user; set CODEPRIOR_CACHE to a folder of your own"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write into {path}; close it with chmod go-w, or set CODEPRIOR_CACHE to another folder"
    return None


def _find(folder: Path, name: str) -> Path | None:
    for path in sorted(folder.glob(f"{name}-*.so")):
        if not path.is_symlink() and _why_not_ours(path) is None and path.name == _named_by_content(name, path):
            return path
    return None


def _named_by_content(name: str, path: Path) -> str:
    return f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.so"


def _compile(source: Path, command: tuple[str, ...], folder: Path, name: str) -> Path:
    start = time.perf_counter()
    _sweep(folder)
    # the compiler's own temporary files stay inside this folder too
    with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED) as inside:
        built = Path(inside) / f"{name}.so"
        result = subprocess.run(
            [*command, "-o", str(built), str(source)],
            capture_output=True, text=True, timeout=_SECONDS, check=False, env=_environment() | {"TMPDIR": inside},
        )  # fmt: skip
        if result.returncode:
            raise OSError(f"{command[0]} could not compile {source.name}: {result.stderr.strip()[:200]}")
        built.chmod(0o700)
        target = folder / _named_by_content(name, built)
        built.replace(target)
    _LOG.info("compiled %s in %.1f s, once for this machine: %s", source.name, time.perf_counter() - start, target)
    return target


def _environment() -> dict[str, str]:
    # variables that add headers or libraries would change the result, and the name of the file does not show them
    return {name: value for name, value in os.environ.items() if name not in _ADDING}


def _sweep(folder: Path) -> None:
    """Removes what killed compilers have left, once it is so old that none of them can be running."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        if left.is_dir() and not left.is_symlink() and time.time() - left.stat().st_mtime > 10 * _SECONDS:
            shutil.rmtree(left, ignore_errors=True)


@functools.cache
def _name(source: Path, command: tuple[str, ...]) -> str:
    # flags do not change the version that a compiler prints
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    processor = " ".join([platform.machine(), platform.processor(), *sorted(_built.features())])
    # the headers that it includes lie beside it
    parts = [source, *sorted(source.parent.glob("*.hpp"))]
    text = "\n".join([*command, version.stdout, processor]).encode() + b"".join(part.read_bytes() for part in parts)
    return f"{source.stem}-{hashlib.sha256(text).hexdigest()[:16]}"
