"""The native store gives back what was saved, and refuses everything else without building or running it."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from codeprior.layers.configured import configured
from codeprior.weights import load, read_metadata, save
from codeprior.weights.bounds import no_larger_than


@configured
class StoredPart(nn.Module):
    def __init__(self, width: int, *, bias: bool = True):
        super().__init__()
        self.linear = nn.Linear(width, 3, bias=bias)
        self.register_buffer("steps", torch.tensor(2**40 + 1))


@configured
class StoredWhole(nn.Module):
    def __init__(
        self, part: StoredPart, sizes: tuple[int, ...] = (1, 2), name: str = "plain", pretrained: bool = False
    ):
        super().__init__()
        self.part = part
        self.norm = nn.BatchNorm1d(3)
        self.tied = self.part.linear.weight
        if pretrained:
            raise RuntimeError("would download")


def _same(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) and one[k].dtype == two[k].dtype for k in one)


@settings(max_examples=15, deadline=None)
@given(
    width=st.integers(1, 9), bias=st.booleans(), sizes=st.lists(st.integers(0, 5), max_size=3), seed=st.integers(0, 99)
)
def test_save_then_load_is_bitwise(tmp_path_factory, width, bias, sizes, seed):
    torch.manual_seed(seed)
    module = StoredWhole(StoredPart(width, bias=bias), tuple(sizes))
    path = tmp_path_factory.mktemp("store") / "whole.safetensors"
    save(path, module, metadata={"licence": "CC0"})
    again = load(path)
    assert _same(module, again)
    assert again.config == module.config
    assert not again.training
    assert read_metadata(path)["licence"] == "CC0"
    assert json.loads(read_metadata(path)["codeprior.config"]) == module.config


def test_half_precision_is_rounded_once_and_loads_as_float32(tmp_path):
    module = StoredPart(300)
    save(tmp_path / "half.safetensors", module, dtype=torch.float16)
    again = load(tmp_path / "half.safetensors")
    assert again.linear.weight.dtype == torch.float32
    assert torch.equal(again.linear.weight, module.linear.weight.half().float())
    assert again.steps == 2**40 + 1
    assert load(tmp_path / "half.safetensors", dtype=None).linear.weight.dtype == torch.float16
    save(tmp_path / "whole.safetensors", module)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.75 * (tmp_path / "whole.safetensors").stat().st_size


def test_half_precision_refuses_weights_that_would_become_infinite(tmp_path):
    module = StoredPart(2)
    module.linear.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"linear.weight reaches 1e\+06, outside the range of torch.float16"):
        save(tmp_path / "half.safetensors", module, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_loading_leaves_the_global_generator_alone(tmp_path):
    save(tmp_path / "a.safetensors", StoredPart(4))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load(tmp_path / "a.safetensors")
    assert torch.equal(torch.rand(2), expected)


def test_a_replaced_file_is_whole_or_old(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save(path, StoredPart(4))
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(path, StoredPart(5))
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.safetensors"]


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    save(path, StoredPart(4), metadata={"note": "text"})
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for position in torch.randint(0, 8 * len(whole), (300,), generator=generator).tolist():
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="load: "):
            load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole safetensors file"),
        (b"PK\x03\x04" + b"\0" * 100, "use codeprior convert"),
        (b"\xff" * 64, "not a whole safetensors file"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "odd.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match="not a regular file"):
        load(tmp_path)


def _forge(path: Path, config: object, tensors: dict[str, torch.Tensor]) -> None:
    from codeprior.weights.store import _digest

    header = {"codeprior.class": "X", "codeprior.config": json.dumps(config)}
    save_file(tensors, path, header | {"codeprior.sha256": _digest(header, tensors)})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class": "os.system", "command": "true"}, "no module class named 'os.system'"),
        ({"class": "StoredPart", "width": 60_000}, "does not fit StoredPart"),
        ({"class": "StoredPart", "width": 10**7}, "holds the count 10000000, larger than anything"),
        ({"class": "StoredPart", "width": -1}, "does not build"),
        ({"class": "StoredPart", "width": "hf-hub:someone/something"}, "no paths or addresses"),
        ({"class": "StoredPart", "depth": 3}, "does not take these arguments"),
        ({"class": ["StoredPart"]}, "does not build"),
        ([], "does not build"),
        ("text", "does not build"),
    ],
)
def test_a_forged_configuration_is_refused(tmp_path, config, message):
    path = tmp_path / "forged.safetensors"
    _forge(path, config, {"linear.weight": torch.zeros(3, 4)})
    with pytest.raises(ValueError, match=message):
        load(path)


def test_a_recorded_wish_for_pretrained_weights_is_dropped(tmp_path):
    module = StoredWhole(StoredPart(2))
    path = tmp_path / "a.safetensors"
    _forge(path, {**module.config, "pretrained": True}, {k: v.clone() for k, v in module.state_dict().items()})
    assert _same(load(path), module)


def test_loading_is_strict(tmp_path):
    state = dict(StoredPart(4).state_dict())
    state["extra"] = state.pop("linear.bias")
    state["linear.weight"] = torch.zeros(3, 5)
    _forge(tmp_path / "a.safetensors", {"class": "StoredPart", "width": 4, "bias": True}, state)
    with pytest.raises(
        ValueError, match=r"missing linear.bias; surplus extra; linear.weight is \[3, 5\] instead of \[3, 4\]"
    ):
        load(tmp_path / "a.safetensors")


def test_tensors_without_a_configuration_name_the_way_out(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="codeprior convert makes such a file"):
        load(tmp_path / "a.safetensors")


def test_saving_asks_for_a_configured_module_and_plain_metadata(tmp_path):
    with pytest.raises(TypeError, match="got Linear; decorate its class"):
        save(tmp_path / "a", nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"'codeprior\.x' is reserved"):
        save(tmp_path / "a", StoredPart(2), metadata={"codeprior.x": "1"})
    with pytest.raises(TypeError, match="metadata must be text"):
        save(tmp_path / "a", StoredPart(2), metadata={"epoch": 3})
    with pytest.raises(ValueError, match="dtype must be a floating type"):
        save(tmp_path / "a", StoredPart(2), dtype=torch.int8)


def test_equal_modules_give_equal_files(tmp_path):
    # the text of the header would else lie in another order at every call
    module = StoredPart(4)
    note = {"licence": "CC0-1.0", "commit": "0", "faces": "ölüm.png", "steps": "7"}
    for name in ("one", "other"):
        save(tmp_path / f"{name}.safetensors", module, metadata=note)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()
    assert read_metadata(tmp_path / "one.safetensors").items() >= note.items()


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(10**6, 10**6),
        lambda: torch.zeros(10**6, 10**6),
        lambda: torch.full((10**6, 10**6), 2.0),
        lambda: torch.randn(10**6, 10**6, generator=torch.Generator()),
        lambda: torch.arange(10**12),
        lambda: torch.zeros(1).new_zeros(10**6, 10**6),
        lambda: torch.eye(10**6),
        lambda: torch.zeros(1, device="meta").new_empty(10**6, 10**6),
    ],
)
def test_a_tensor_that_no_file_can_fill_is_refused_before_there_is_memory_for_it(make):
    with no_larger_than({"a": torch.zeros(4)}):
        assert torch.zeros(1000).sum() == 0 and len(torch.randperm(5)) == 5
        with pytest.raises(ValueError, match="asks for a larger module than the 1 tensors of the file"):
            make()
