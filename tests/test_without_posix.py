"""Systems without POSIX's calls: reading, writing, restoring, converting and training do without them."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from codeprior import files

_CALLS = (
    "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "pread", "preadv", "fchmod", "fchown", "link",
    "getuid", "geteuid", "getppid", "mkfifo", "sched_getaffinity", "sync", "statvfs", "fork", "uname",
)  # fmt: skip


@pytest.fixture
def elsewhere(monkeypatch):
    """Takes away what Windows lacks; opening a folder is refused there as well."""
    for name in _CALLS:
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.delattr(signal, "SIGUSR1", raising=False)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    real = os.open

    def opened(path, flags, mode=0o777, **more):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(files, "_EXTRA", 0)


@pytest.mark.usefixtures("elsewhere")
def test_files_are_written_kept_and_removed(tmp_path):
    files.write(tmp_path / "a", b"one")
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "a", b"two")
    files.write(tmp_path / "a", b"two", overwrite=True)
    with files.reopen(tmp_path / "a") as file:
        file.write(b"three")
    assert (tmp_path / "a").read_bytes() == b"twothree"
    files.make_folder(tmp_path / "deep" / "er")
    files.create(tmp_path / "deep" / "er" / "b", b"x")
    assert files.remove_folder(tmp_path / "deep" / "er", ["b"])
    assert files.sha256(tmp_path / "a") == files.sha256(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a"]


@pytest.mark.usefixtures("elsewhere")
def test_nobody_is_asked_whether_a_process_lives_where_asking_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "name", "nt", raising=False)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("on Windows this ends the process"))
    left = tmp_path / f".codeprior-part-{files._place()}-{os.getpid()}-{'0' * 16}"
    left.write_bytes(b"x")
    assert files.sweep(str(tmp_path)) == 0


@pytest.mark.usefixtures("elsewhere")
def test_pictures_weights_and_checkpoints_go_round(tmp_path):
    from codeprior.checkpoints import read_checkpoint
    from codeprior.codebooks import Codebook
    from codeprior.photos import read, write
    from codeprior.weights import load, save

    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write(tmp_path / "a.png", pixels)
    assert np.array_equal(read(tmp_path / "a.png").pixels, pixels)
    module = Codebook(4, 3)
    save(tmp_path / "a.safetensors", module)
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in load(tmp_path / "a.safetensors").state_dict().items())
    torch.save({"w": torch.ones(3)}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").tensors["w"].sum() == 3


@pytest.mark.usefixtures("elsewhere")
def test_commands_convert_and_restore(tmp_path):
    from codeprior.__main__ import main
    from codeprior.photos import write

    torch.save({"w": torch.ones(3)}, tmp_path / "a.pth")
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors")]) == 0
    write(tmp_path / "face.png", np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))
    assert main(["restore", str(tmp_path / "face.png"), str(tmp_path / "out"), "--aligned", "--quiet"]) == 0
    assert (tmp_path / "out" / "face.png").is_file()


@pytest.mark.usefixtures("elsewhere")
def test_a_short_training_runs_resumes_and_packs_its_images(tmp_path):
    from codeprior.training import ImageShards, Saving, check_images, train, write_index, write_shards
    from codeprior.training.index import INDEX
    from tests.training.toy import Toy, digest, stream, write_faces

    faces = write_faces(tmp_path / "faces")
    options = {"saving": Saving(every=2), "log_every": 2, "preview_every": 2, "progress": False}
    whole = Toy()
    train(whole, stream(faces), folder=tmp_path / "whole", steps=4, **options)
    train(Toy(), stream(faces), folder=tmp_path / "halves", steps=2, **options)
    again = Toy(seed=9)
    train(again, stream(faces), folder=tmp_path / "halves", steps=4, **options)
    assert digest(again.net) == digest(whole.net)
    write_index(faces / INDEX, check_images(faces).entries)
    write_shards(faces, tmp_path / "shards")
    assert ImageShards(tmp_path / "shards", size=8).image(0).shape == (3, 8, 8)


def test_names_that_windows_reserves_are_changed_there_only(tmp_path, monkeypatch):
    from codeprior.commands import _jobs

    (tmp_path / "in").mkdir()
    for name in ("CON.png", "a:b.png"):
        (tmp_path / "in" / name).write_bytes(b"x")
    given = [job.target.name for job in _jobs.jobs([str(tmp_path / "in")], tmp_path / "out")[0]]
    assert given == ["CON.png", "a:b.png"]
    relative = [Path("CON.png"), Path("sub/a:b.png"), Path("nul/aux.jpg")]
    monkeypatch.setattr(_jobs, "RESERVES", True)
    changed = [str(_jobs._target(Path("out"), path, None)) for path in relative]
    assert changed == ["out/CON_.png", "out/sub/a_b.png", "out/nul_/aux_.jpg"]
