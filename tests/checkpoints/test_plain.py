"""Safetensors files and arrays that claim what no weights have: refused by every reader, in one kind of error."""

import json
import struct

import numpy as np
import pytest
import torch

from codeprior.checkpoints import arrays, read_arrays, read_checkpoint
from codeprior.estimators import load_estimator
from codeprior.weights import load


def _file(path, header: dict, content: bytes = b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def _entry(shape: list, kind: str = "F32", size: int = 0) -> dict:
    return {"dtype": kind, "shape": shape, "data_offsets": [0, size]}


HEADERS = {
    "nothing of a large side": ({"a": _entry([0, 2**40])}, b""),
    "nothing of a side beyond 63 bits": ({"a": _entry([0, 2**63])}, b""),
    "a thousand dimensions": ({"a": _entry([1] * 1000, size=4)}, bytes(4)),
    "a type of half a byte": ({"a": _entry([4], "F4", 2)}, bytes(2)),
    "a type of scales": ({"a": _entry([2], "F8_E8M0", 2)}, bytes(2)),
    "a side that is no number": ({"a": _entry(["4"], size=16)}, bytes(16)),
    "a tensor that is a list": ({"a": []}, b""),
    "text that is a number": ({"__metadata__": {"a": 1}}, b""),
    "too many": ({str(number): _entry([0]) for number in range(100_001)}, b""),
}


@pytest.mark.parametrize("name", HEADERS)
def test_what_no_weights_have_is_refused_by_every_reader(name, tmp_path):
    path = _file(tmp_path / "a.safetensors", *HEADERS[name])
    for read in (read_checkpoint, load, load_estimator):
        with pytest.raises(ValueError, match=r"a\.safetensors"):
            read(path)


def test_a_small_tensor_without_elements_is_kept(tmp_path):
    path = _file(tmp_path / "a.safetensors", {"a": _entry([0, 512])})
    assert read_checkpoint(path).tensors["a"].shape == (0, 512)
    torch.save({"a": torch.zeros(0, 512)}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").tensors["a"].shape == (0, 512)


def test_a_pickled_tensor_without_elements_claims_no_large_side(tmp_path):
    torch.save({"a": torch.zeros(0, 2**40)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="a has sizes that no tensor has"):
        read_checkpoint(tmp_path / "a.pth")


def test_an_estimator_whose_description_is_a_list_is_refused(tmp_path):
    path = _file(tmp_path / "a.safetensors", {"__metadata__": {"codeprior.config": "[]"}})
    with pytest.raises(ValueError, match="does not describe a DamageEstimator"):
        load_estimator(path)


def test_arrays_that_grow_when_they_are_unpacked_are_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2**21, np.uint8))
    assert read_arrays(tmp_path / "a.npz")["a"].shape == (2**21,)
    monkeypatch.setattr(arrays, "_MAX_BYTES", 2**20)  # the file has 2 kB
    with pytest.raises(ValueError, match=r"would have 2,097,\d+ bytes unpacked, more than 1,048,576"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"PK\3\4", b"", b"\x80\2.", b"PK" + bytes(100)])
def test_arrays_of_other_bytes_are_one_kind_of_error(tmp_path, content):
    for name in ("a.npz", "a.pth"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="read_arrays: .* holds no arrays by name"):
            read_arrays(tmp_path / name)
