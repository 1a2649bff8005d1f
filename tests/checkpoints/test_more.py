"""Foreign files of a second review: work is counted, names never collide, what is hashed is read, wrappers come off."""

import hashlib
import os
from importlib import import_module

import pytest
import torch

from codeprior import files
from codeprior.checkpoints import read_checkpoint
from codeprior.weights import load
from tests.checkpoints.hostile import real_state
from tests.checkpoints.more import names, work
from tests.checkpoints.opcodes import archive
from tests.checkpoints.test_checkpoint import _equal


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("call of a long name", "by more than 500 letters"),
        ("copies of sizes", "copies more than"),
        ("copies of pairs", "copies more than"),
        ("copies of a dictionary", "copies more than"),
        ("long equal keys", "copies more than"),
        ("flat and nested", "two tensors under the name x.w"),
        ("twice nested", "two tensors under the name x.a.b"),
        ("number and text", "two tensors under the name 0"),
        ("named metadata", "a name that safetensors keeps"),
        ("type bits8", "has the type 'bits8', which is not read"),
        ("type qint8", "has the type 'qint8', which is not read"),
    ],
)
def test_work_is_counted_and_names_that_collide_are_refused(name, reason, tmp_path):
    content = dict([*work(), *names()])[name]
    archive(tmp_path / "a.ckpt", content)
    with pytest.raises(ValueError, match=reason):
        read_checkpoint(tmp_path / "a.ckpt")


def test_what_is_hashed_is_what_is_read(tmp_path, monkeypatch):
    """Another file put under the name between hashing and reading changes nothing: the file is opened once."""
    good, other = tmp_path / "good.pth", tmp_path / "other.pth"
    torch.save({"w": torch.ones(2)}, good)
    torch.save({"w": torch.zeros(2)}, other)
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    real = files.sha256

    def swapped(file):
        found = real(file)
        if other.exists():
            os.replace(other, good)
        return found

    monkeypatch.setattr(files, "sha256", swapped)
    found = read_checkpoint(good, sha256=digest)
    assert found.sha256 == digest and found.tensors["w"].tolist() == [1, 1]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    torch.save({"w": torch.ones(2)}, path)
    real = files.sha256

    def touched(file):
        found = real(file)
        path.write_bytes(path.read_bytes())
        return found

    monkeypatch.setattr(files, "sha256", touched)
    with pytest.raises(ValueError, match="changed while it was read"):
        read_checkpoint(path)


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_weights_stay_what_they_were_when_the_file_changes(dtype, tmp_path):
    from codeprior.codebooks import Codebook
    from codeprior.weights import save

    path = tmp_path / "a.safetensors"
    module = Codebook(4, 3)
    save(path, module)
    loaded, read = load(path, dtype=dtype), read_checkpoint(path).tensors
    with path.open("r+b") as file:
        file.seek(-48, 2)
        file.write(bytes(48))
        file.truncate(40)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in read.items())


@pytest.mark.parametrize(
    "wrap",
    [
        "module.{}",
        "_orig_mod.{}",
        "module._orig_mod.{}",
        "_orig_mod.module.{}",
        "module.module.{}",
        "_orig_mod._orig_mod.{}",
    ],
)
def test_wrappers_are_taken_off_in_any_order(wrap, tmp_path):
    inner = {"a.weight": torch.ones(1), "b.weight": torch.zeros(1)}
    torch.save({wrap.format(name): value for name, value in inner.items()}, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth")
    expected = inner if wrap != "module.module.{}" else {f"module.{name}": value for name, value in inner.items()}
    assert _equal(found.tensors, expected)


def test_wrappers_inside_are_taken_off_and_names_never_collide(tmp_path):
    torch.save({"net._orig_mod.w": torch.ones(1), "net.b": torch.zeros(1)}, tmp_path / "a.pth")
    assert set(read_checkpoint(tmp_path / "a.pth").tensors) == {"net.w", "net.b"}
    torch.save({"net._orig_mod.w": torch.ones(1), "net.w": torch.zeros(1)}, tmp_path / "b.pth")
    assert set(read_checkpoint(tmp_path / "b.pth").tensors) == {"net._orig_mod.w", "net.w"}


@pytest.mark.parametrize("name", ["archive", "machine", "opcodes", "unpickle", "checkpoint", "download"])
def test_the_old_places_still_work_and_say_where_the_new_ones_are(name):
    old, new = import_module(f"codeprior.weights.{name}"), import_module(f"codeprior.checkpoints.{name}")
    public = next(key for key, value in vars(new).items() if getattr(value, "__module__", "") == new.__name__)
    with pytest.warns(DeprecationWarning, match=f"codeprior.checkpoints.{name}.{public}"):
        assert getattr(old, public) is getattr(new, public)


@pytest.mark.parametrize("name", ["read_checkpoint", "Checkpoint", "fetch"])
def test_the_old_names_of_the_room_still_work(name):
    import codeprior.checkpoints
    import codeprior.weights

    with pytest.warns(DeprecationWarning, match=f"codeprior.checkpoints.{name}"):
        assert getattr(codeprior.weights, name) is getattr(codeprior.checkpoints, name)


def test_files_from_before_torch_1_6_are_read_bitwise(tmp_path):
    torch.save({"state_dict": real_state(), "epoch": 3}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    found = read_checkpoint(tmp_path / "a.pth")
    assert _equal(found.tensors, real_state())
    assert found.scalars == {"epoch": "3"}
    content = (tmp_path / "a.pth").read_bytes()
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    # cut anywhere, it is refused: what is missing is never zero
    for share in range(0, 100, 3):
        (tmp_path / "cut.pth").write_bytes(content[: len(content) * share // 100])
        with pytest.raises(ValueError, match="cut.pth"):
            read_checkpoint(tmp_path / "cut.pth")
    (tmp_path / "more.pth").write_bytes(content + b"more")
    with pytest.raises(ValueError, match="bytes behind its last storage"):
        read_checkpoint(tmp_path / "more.pth")
