"""Files: outputs whole or absent, never over something, never through a link; only what is ours is removed."""

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from codeprior import files


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def outside(tmp_path) -> Path:
    path = tmp_path / "outside.txt"
    path.write_bytes(b"mine")
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def _blocked(kind: str, path: Path, outside: Path) -> None:
    if kind == "file":
        path.write_bytes(b"mine")
    elif kind == "link":
        path.symlink_to(outside)
    elif kind == "dangling link":
        path.symlink_to(outside.with_name("nowhere"))
    elif kind == "link to a folder":
        path.symlink_to(outside.parent)
    elif kind == "hard link":
        os.link(outside, path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)


KINDS = ("file", "link", "dangling link", "link to a folder", "hard link", "folder", "pipe")


@pytest.mark.parametrize("way", ["create", "write", "writing", "rename"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_has_the_name_is_touched(kind, way, folder, outside):
    path = folder / "a.txt"
    _blocked(kind, path, outside)
    before = os.lstat(path)
    call = {"create": files.create, "write": files.write, "writing": _streamed, "rename": _renamed}[way]
    with pytest.raises(FileExistsError):
        call(path, b"new")
    assert os.lstat(path)[:4] == before[:4]
    assert outside.read_bytes() == b"mine"
    assert not outside.with_name("nowhere").exists()
    assert [item.name for item in folder.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "link to a folder", "hard link", "pipe"])
def test_overwriting_replaces_the_name_and_never_what_it_leads_to(kind, folder, outside):
    path = folder / "a.txt"
    _blocked(kind, path, outside)
    files.write(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new" and not path.is_symlink()
    assert outside.read_bytes() == b"mine"
    assert not outside.with_name("nowhere").exists()
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_grows_is_never_written_through_a_link(kind, folder, outside):
    path = folder / "log.jsonl"
    _blocked(kind, path, outside)
    with pytest.raises(OSError, match="not written through"):
        files.reopen(path)
    assert outside.read_bytes() == b"mine"
    assert not outside.with_name("nowhere").exists()


def test_what_grows_goes_on_at_its_end(folder):
    for part in ("one\n", "two\n"):
        with files.reopen(folder / "log", text=True) as file:
            file.write(part)
    assert (folder / "log").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
@pytest.mark.parametrize("way", ["create", "write", "overwrite", "reopen"])
def test_the_umask_decides_who_may_read(mask, way, folder):
    path = folder / "a"
    before = os.umask(mask)
    try:
        if way == "create":
            files.create(path, b"x")
        elif way == "reopen":
            files.reopen(path).close()
        else:
            files.write(path, b"x", overwrite=way == "overwrite")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_that_is_replaced_keeps_its_permissions(mode, folder):
    (folder / "a").write_bytes(b"old")
    (folder / "a").chmod(mode)
    files.write(folder / "a", b"new", overwrite=True)
    assert stat.S_IMODE((folder / "a").stat().st_mode) == mode


def _renamed(path: Path, content: bytes) -> None:
    finished = path.parent.parent / "finished"
    finished.write_bytes(content)
    files.rename(finished, path)


def _streamed(path: Path, content: bytes, *, failing: bool = False) -> None:
    with files.writing(path) as file:
        file.write(content)
        if failing:
            raise ValueError("half")


def test_an_error_inside_the_block_leaves_nothing(folder):
    with pytest.raises(ValueError, match="half"):
        _streamed(folder / "a", b"half", failing=True)
    assert not list(folder.iterdir())
    (folder / "a").write_bytes(b"old")
    with pytest.raises(ValueError, match="half"), files.writing(folder / "a", overwrite=True):
        raise ValueError("half")
    assert _tree(folder) == {"a": b"old"}


@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
def test_a_disk_that_refuses_at_any_step_leaves_what_was_there(call, folder, monkeypatch):
    (folder / "a").write_bytes(b"old")
    error = OSError(28, "No space left on device")
    monkeypatch.setattr(os, call, lambda *_: (_ for _ in ()).throw(error))
    overwrite = call != "link"
    name = "a" if overwrite else "b"
    if call == "link":  # a disk without hard links: another way, and still never over something
        files.write(folder / name, b"new")
        assert _tree(folder) == {"a": b"old", "b": b"new"}
        with pytest.raises(FileExistsError):
            files.write(folder / name, b"newer")
    else:
        with pytest.raises(OSError, match="No space"):
            files.write(folder / name, b"new", overwrite=True)
        assert _tree(folder) == {"a": b"old"}


def test_of_writers_in_a_race_one_wins_and_no_bytes_mix(folder):
    won, start = [], threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        try:
            files.write(folder / "a", bytes([number]) * 100_000)
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert _tree(folder) == {"a": bytes(won) * 100_000}


def test_names_of_unfinished_files_cannot_be_foretold():
    names = {files.temporary_name() for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".codeprior-part-") for name in names)


def test_a_link_laid_in_wait_is_not_followed(folder, outside, monkeypatch):
    monkeypatch.setattr(files, "temporary_name", lambda: ".codeprior-part-known")
    (folder / ".codeprior-part-known").symlink_to(outside)
    with pytest.raises(FileExistsError):
        files.write(folder / "a", b"new")
    assert outside.read_bytes() == b"mine"


def _left(folder: Path, process: int, *, place: str | None = None, token: str = "0" * 16) -> Path:
    path = folder / f".codeprior-part-{files._place() if place is None else place}-{process}-{token}"
    path.write_bytes(b"x")
    return path


def test_only_unfinished_files_of_dead_processes_are_swept(folder, outside):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    gone = _left(folder, dead.pid)
    stay = [_left(folder, os.getpid()), _left(folder, os.getppid()), _left(folder, dead.pid, place="0" * 8)]
    stay += [_left(folder, dead.pid, token=token) for token in ("x" * 16, "0" * 15, "0" * 16 + ".png")]
    old_machine = _left(folder, dead.pid, place="1" * 8)
    os.utime(old_machine, (time.time() - 90_000,) * 2)
    link = folder / f".codeprior-part-{files._place()}-{dead.pid}-{'a' * 16}"
    link.symlink_to(outside)
    inside = folder / f".codeprior-part-{files._place()}-{dead.pid}-{'b' * 16}"
    inside.mkdir()
    assert files.sweep(folder) == 2
    assert not gone.exists() and not old_machine.exists()
    assert all(path.exists() for path in [*stay, link, inside, outside])


def test_sweeping_is_never_an_error(folder, monkeypatch):
    assert files.sweep(folder / "nowhere") == 0
    (folder / "file").write_bytes(b"")
    assert files.sweep(folder / "file") == 0
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    _left(folder, dead.pid)
    monkeypatch.setattr(os, "unlink", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    assert files.sweep(folder) == 0


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a folder", "device"])
def test_only_regular_files_are_read_and_nothing_is_waited_for(kind, folder, outside):
    path = folder / "a"
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        _blocked(kind, path, outside)
    with pytest.raises(OSError, match="not a regular file"):
        files.opened(path)
    with pytest.raises(OSError, match="not a regular file"):
        files.sha256(path)


def test_a_hash_is_of_what_is_open_and_not_of_what_has_the_name_since(folder):
    (folder / "a").write_bytes(b"first")
    with files.opened(folder / "a") as file:
        files.write(folder / "a", b"second", overwrite=True)
        assert files.sha256(file) == "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"
        assert file.read() == b"first"


def test_a_folder_is_removed_only_of_what_is_listed(folder, outside):
    place = folder / "place"
    place.mkdir()
    for name in ("a", "b", "notes"):
        (place / name).write_bytes(b"x")
    (place / "c").symlink_to(outside)
    (place / "deep").mkdir()
    (place / "deep" / "d").write_bytes(b"x")
    assert not files.remove_folder(place, ["a", "b", "c", "deep", "../../outside.txt", "deep/d", "gone", str(outside)])
    assert sorted(path.name for path in place.iterdir()) == ["c", "deep", "notes"]
    assert outside.read_bytes() == b"mine" and (place / "deep" / "d").exists()


def test_a_link_to_a_folder_is_not_emptied(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"x")
    (folder / "place").symlink_to(tmp_path / "elsewhere")
    assert not files.remove_folder(folder / "place", ["a"])
    assert (tmp_path / "elsewhere" / "a").exists()
    assert files.remove_folder(folder / "nowhere", ["a"])


def test_text_that_is_not_unicode_is_written_escaped(folder):
    files.write(folder / "a", "caf\udce9")
    assert (folder / "a").read_text() == r"caf\udce9"
