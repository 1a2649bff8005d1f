"""Foreign checkpoints: the real layouts come out bitwise, hostile ones are refused or defused, nothing ever runs."""

import argparse
import collections
import resource
import struct
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as to_safetensors

from codeprior.checkpoints import read_checkpoint
from codeprior.checkpoints.machine import Refused
from codeprior.checkpoints.unpickle import unpickle
from codeprior.weights import load
from tests.checkpoints.hostile import MARKER, containers, corpus, damaged, real_state
from tests.checkpoints.more import more
from tests.checkpoints.opcodes import archive, honest, state, tensor, text


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Bitwise, so that -0.0 and NaN payloads count."""
    return list(first) == list(second) and all(_bits(first[name]) == _bits(second[name]) for name in first)


def _bits(value: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    plain = value.detach().contiguous()
    kind = torch.int16 if plain.dtype == torch.bfloat16 else plain.dtype  # numpy has no bfloat16
    return plain.dtype, plain.shape, plain.view(kind).numpy().tobytes()


@pytest.fixture
def foreign(monkeypatch):
    """Classes of packages that are not installed, which pickles can name."""

    def make(dotted: str) -> type:
        module, _, name = dotted.rpartition(".")
        for end in range(1, module.count(".") + 2):
            part = ".".join(module.split(".")[:end])
            if part not in sys.modules:
                monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
        made = type(name, (), {"__module__": module})
        monkeypatch.setattr(sys.modules[module], name, made, raising=False)
        return made

    return make


def test_lightning_1_0_8_with_classes_as_keys_loads_bitwise(tmp_path, foreign):
    model_checkpoint = foreign("fake_lightning.callbacks.model_checkpoint.ModelCheckpoint")
    state = real_state()
    torch.save(
        {
            "epoch": 5,
            "global_step": 1234,
            "pytorch-lightning_version": "1.0.8",
            "callbacks": {model_checkpoint: {"best_model_score": torch.tensor(0.5), "best_model_path": "x.ckpt"}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"params": [0]}]}],
            "lr_schedulers": [{"milestones": collections.Counter({400: 1})}],
            "state_dict": state,
        },
        tmp_path / "a.ckpt",
    )
    found = read_checkpoint(tmp_path / "a.ckpt")
    assert _equal(found.tensors, state)
    assert found.section == "state_dict"
    assert found.scalars["global_step"] == "1234"
    assert any(line.startswith("optimizer_states: 1 tensors") for line in found.dropped)
    assert any("whose key is no text" in line for line in found.dropped)


def test_lightning_2_with_omegaconf_loads_bitwise(tmp_path, foreign):
    config = foreign("fake_omegaconf.dictconfig.DictConfig")()
    node = foreign("fake_omegaconf.nodes.AnyNode")()
    config.__dict__.update(_metadata=node, _content=collections.defaultdict(dict, {"lr": node}), _parent=config)
    state = real_state()
    torch.save({"state_dict": collections.OrderedDict(state), "hyper_parameters": config}, tmp_path / "a.ckpt")
    found = read_checkpoint(tmp_path / "a.ckpt")
    assert _equal(found.tensors, state)
    assert any("DictConfig" in line for line in found.dropped)


@pytest.mark.parametrize("section", ["params_ema", "state_dict", "g_ema", "model", None])
def test_sections_of_other_frameworks_load_bitwise(tmp_path, section):
    state = real_state()
    rest = {
        "args": argparse.Namespace(lr=1e-4),
        "scores": np.arange(4.0),
        "best": np.float64(0.3),
        "names": {"a", "b"},
        "discriminator": {"weight": torch.zeros(2)},
    }
    torch.save(state if section is None else {section: state} | rest, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth")
    assert _equal(found.tensors, state)
    assert found.section == (section or "")


def test_a_module_saved_by_torch_loads_bitwise_with_its_prefix_gone(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    torch.save(torch.nn.DataParallel(module).state_dict(), tmp_path / "a.pth")
    assert _equal(read_checkpoint(tmp_path / "a.pth").tensors, dict(module.state_dict()))


def test_every_pickle_protocol_is_read(tmp_path):
    for protocol in (2, 3, 4, 5):
        torch.save(real_state(), tmp_path / f"{protocol}.pth", pickle_protocol=protocol)
        assert _equal(read_checkpoint(tmp_path / f"{protocol}.pth").tensors, real_state())


def test_an_asked_for_section_is_taken_or_missed(tmp_path):
    torch.save({"params": {"w": torch.ones(2)}, "params_ema": {"w": torch.zeros(2)}}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").tensors["w"].sum() == 0
    assert read_checkpoint(tmp_path / "a.pth", section="params").tensors["w"].sum() == 2
    with pytest.raises(ValueError, match="no section 'generator'; dictionaries at the top are: params, params_ema"):
        read_checkpoint(tmp_path / "a.pth", section="generator")


def test_tensors_own_their_memory(tmp_path):
    torch.save(real_state(), tmp_path / "a.pth")
    tensors = read_checkpoint(tmp_path / "a.pth").tensors
    tensors["tied"].zero_()
    assert _equal({"weight": tensors["weight"]}, {"weight": real_state()["weight"]})


def test_a_wrong_checksum_is_refused_before_reading(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"anything")
    with pytest.raises(ValueError, match="expected 0000"):
        read_checkpoint(tmp_path / "a.pth", sha256="0" * 64)


def test_safetensors_pass_through(tmp_path):
    state = {"a": torch.arange(4.0)}
    (tmp_path / "a.safetensors").write_bytes(to_safetensors(state))
    assert _equal(read_checkpoint(tmp_path / "a.safetensors").tensors, state)


@pytest.fixture(scope="module")
def other_containers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("containers")
    assert len(list(containers(folder))) >= 15
    return folder


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tar", "torch's first format"),
        ("pickle", "a bare pickle"),
        ("torchscript", "TorchScript"),
        ("deflated", "compressed member"),
        ("sparse", "more than are there"),
        ("empty", "is empty"),
        ("big-endian", "byte order"),
        ("second", "2 pickles"),
    ],
)
def test_other_containers_are_refused_with_a_reason(other_containers, name, reason):
    path = other_containers / f"container-{name}.ckpt"
    with pytest.raises(ValueError, match=reason) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_defused_call_is_named_and_the_tensors_stay(tmp_path):
    archive(tmp_path / "a.pth", state(text("x"), b"cos\nsystem\n(" + text(f"touch {MARKER}") + b"tR"))
    found = read_checkpoint(tmp_path / "a.pth")
    assert found.tensors["a"].tolist() == [[1, 2], [3, 4]]
    assert "1 × posix.system: not read" not in found.dropped
    assert "1 × os.system: not read" in found.dropped
    assert not MARKER.exists()


def test_hostile_checkpoints_neither_run_nor_hang_nor_fill_memory(tmp_path):
    _survives(tmp_path, without=("deep", "deep tuples", "opcodes", "marks", "many entries"))


@pytest.mark.slow
def test_hostile_checkpoints_that_keep_a_reader_busy_are_bounded(tmp_path):
    _survives(tmp_path, without=())


def _survives(tmp_path, without):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count, loaded, reasons = 0, [], {}
    first = list(corpus(tmp_path))
    # in the first corpus a tensor that is called "a" is always this one, but for the old format's file, which holds two
    # zeros; in the second it may be anything
    known = {path.name for path in first} - {"container-legacy.ckpt"}
    for path in [*first, *more(tmp_path)]:
        count += 1
        if path.stem.partition("-")[2] in without:
            continue
        started = time.process_time()
        try:
            found = read_checkpoint(path)
            loaded.append(path.name)
            if "a" in found.tensors and path.name in known and "shared" not in path.name:
                assert found.tensors["a"].tolist() == [[1, 2], [3, 4]]
        except ValueError as error:
            reasons[path] = str(error)
        assert time.process_time() - started < 10, path.name
        assert not MARKER.exists(), path.name
        path.unlink()
    assert count >= 650
    assert all(str(path) in reason for path, reason in reasons.items())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20  # KiB
    assert not [name for name in loaded if name.startswith("cut-")]
    lies = [name.removesuffix(".ckpt")[4:] for name in loaded if name[4:].startswith("tensor ")]
    assert set(lies) <= {"tensor no tuple", "tensor parameter of text", "tensor on call"}  # stubs, no tensors


def test_damage_is_noticed_or_harmless(tmp_path):
    """A flip in the pickle can rename a tensor, which no reader can see; tensor bytes are under a checksum."""
    truth = {value.numpy(force=True).tobytes() for name, value in real_state().items() if name != "bfloat"}
    for path in damaged(tmp_path, truncations=5, flips=200):
        try:
            found = read_checkpoint(path)
        except ValueError:
            continue
        for name, value in found.tensors.items():
            if value.dtype != torch.bfloat16 and name in real_state() and value.shape == real_state()[name].shape:
                assert value.numpy(force=True).tobytes() in truth


def _mutated_pickles(count: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    sources = [state(), state(text("x"), tensor((4,), (1,))), state(text("y"), b"}(" + text("k") + b"K\1u")]
    refused = 0
    for index in range(count):
        content = bytearray(sources[index % 3])
        for _ in range(int(rng.integers(1, 5))):
            place = int(rng.integers(len(content)))
            match rng.integers(4):
                case 0:
                    content[place] ^= 1 << int(rng.integers(8))
                case 1:
                    content[place] = int(rng.integers(256))
                case 2:
                    del content[place : place + int(rng.integers(1, 6))]
                case _:
                    content[place:place] = content[max(0, place - 9) : place]
            content = content or bytearray(b".")
        try:
            unpickle(bytes(content))
        except Refused:
            refused += 1
    return refused


def _mutated_safetensors(path: Path, count: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    source = to_safetensors({"a": torch.arange(4.0), "b": torch.zeros(2, 3)}, {"k": "v"})
    refused = 0
    for _ in range(count):
        content = bytearray(source)
        for _ in range(int(rng.integers(1, 5))):
            content[int(rng.integers(min(len(content), 160)))] = int(rng.integers(256))
        if rng.integers(4) == 0:
            content[:8] = struct.pack("<Q", int(rng.integers(2**62)))
        path.write_bytes(content)
        for read in (read_checkpoint, load):
            try:
                read(path)
            except ValueError:
                refused += 1
    return refused


def test_mutated_pickles_and_safetensors_are_read_or_refused(tmp_path):
    assert _mutated_pickles(1500, seed=1) > 500
    assert _mutated_safetensors(tmp_path / "a", 300, seed=1) > 300


@pytest.mark.slow
def test_twenty_thousand_mutations_are_read_or_refused(tmp_path):
    assert _mutated_pickles(20_000, seed=2) > 5_000
    assert _mutated_safetensors(tmp_path / "a", 20_000, seed=2) > 20_000


def test_a_large_training_state_reads_quickly(tmp_path):
    """A thousand tensors with their Adam state: 4,000 storages; only the section asked for is read."""
    state = {f"layer.{index}.weight": torch.full((50,), float(index)) for index in range(1000)}
    adam = {
        index: {"exp_avg": torch.zeros(50), "exp_avg_sq": torch.zeros(50), "step": torch.tensor(1.0)}
        for index in range(1000)
    }
    torch.save({"state_dict": state, "optimizer_states": [{"state": adam}]}, tmp_path / "a.ckpt")
    started = time.process_time()
    assert _equal(read_checkpoint(tmp_path / "a.ckpt").tensors, state)
    assert time.process_time() - started < 5
    assert honest()
