"""Which implementation runs is decided by argument, context, environment and fitness, in that order; never silently."""

import ast
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from codeprior.kernels import ImplUnavailable, _choose, code_stats, explain, nearest_code, residual_code, use_impl
from codeprior.kernels._choose import choose, pick, reasons
from codeprior.kernels._device import launching, why_not_triton
from codeprior.kernels.ops import OPS, Op

TABLE = {"best": lambda: "no such chip", "good": lambda: None, "plain": lambda: None}


@pytest.fixture(autouse=True)
def _three_more_ops(monkeypatch):
    for op in ("op", "other", "third"):
        monkeypatch.setitem(OPS, op, Op(("best", "good", "plain"), triton=False))


def test_auto_takes_the_first_that_can_run():
    assert pick("op", None, reasons=TABLE) == "good"


def test_argument_comes_before_context_before_environment(monkeypatch):
    monkeypatch.setenv("CODEPRIOR_IMPL", "plain")
    assert pick("op", None, reasons=TABLE) == "plain"
    with use_impl("good"):
        assert pick("op", None, reasons=TABLE) == "good"
        assert pick("op", "plain", reasons=TABLE) == "plain"
    assert pick("op", None, reasons=TABLE) == "plain"


def test_pairs_name_some_ops_and_leave_the_others_alone(monkeypatch):
    monkeypatch.setenv("CODEPRIOR_IMPL", "other=best, op=plain")
    assert pick("op", None, reasons=TABLE) == "plain"
    assert pick("third", None, reasons=TABLE) == "good"


def test_a_name_asks_only_the_ops_that_know_it(monkeypatch):
    rows, table = torch.randn(5, 4), torch.randn(3, 4)
    with use_impl("blocked"):
        # neither has blocks
        assert int(code_stats(rows, nearest_code(rows, table), size=3).counts.sum()) == 5
        assert residual_code(rows, table[None]).shape == (5, 1)
        assert "nearest_code: blocked runs (use_impl)" in explain("cpu")
        assert "code_stats: " in explain("cpu")
    monkeypatch.setenv("CODEPRIOR_IMPL", "blocked")
    assert pick("op", None, reasons=TABLE) == "good"
    with pytest.raises(ImplUnavailable, match="impl= asks for 'blocked'; there are best"):
        pick("op", "blocked", reasons=TABLE)


def test_asking_for_what_cannot_run_raises_with_the_reason():
    with pytest.raises(ImplUnavailable, match="op: impl= asks for 'best', which cannot run here: no such chip"):
        pick("op", "best", reasons=TABLE)
    with use_impl("best"), pytest.raises(ImplUnavailable, match="use_impl asks for 'best', which cannot run here"):
        pick("op", None, reasons=TABLE)
    with pytest.raises(ImplUnavailable, match=r"no implementation can run here \(best: no such chip\)"):
        pick("op", None, reasons={"best": TABLE["best"]})


def test_the_choice_of_a_block_ends_with_it():
    with pytest.raises(KeyError), use_impl("plain"):
        raise KeyError
    assert pick("op", None, reasons=TABLE) == "good"


def test_the_tensors_own_device_is_asked_and_is_the_current_one_for_a_launch(monkeypatch):
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(str(device)) or (7, 5))
    assert "compute capability 8.0" in why_not_triton("cuda:1")

    class Current:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            asked.append(str(self.device))

        def __exit__(self, *_):
            asked.append("left")

    monkeypatch.setattr(torch.cuda, "device", Current)
    with launching(SimpleNamespace(device=torch.device("cuda:1"))):
        asked.append("launched")
    assert asked == ["cuda:1", "cuda:1", "launched", "left"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantum", "no implementation is called 'quantum'; there are "),
        ("nearest_cod=blocked", "no op is called 'nearest_cod'; there are nearest_code, "),
        ("code_stats=blocked", "no implementation of code_stats is called 'blocked'; there are triton, compiled, ref"),
    ],
)
def test_a_misspelt_name_does_not_go_unnoticed(text, message, monkeypatch):
    with pytest.raises(ImplUnavailable, match=f"use_impl: {message}"), use_impl(text):
        pass
    monkeypatch.setenv("CODEPRIOR_IMPL", text)
    with pytest.raises(ImplUnavailable, match=f"CODEPRIOR_IMPL: {message}"):
        nearest_code(torch.zeros(1, 1), torch.zeros(1, 1))


def test_the_table_names_the_implementations_that_the_room_holds():
    """The table imports no op; what it says is compared with the files that are there."""
    room = Path(_choose.__file__).parent
    for op, known in OPS.items():
        if op in ("op", "other", "third"):
            continue
        folder = room / {"residual_code": "nearest_code"}.get(op, op)
        assert known.triton == (folder / "fused.py").exists()
        assert known.source is None or (room / known.source).is_file()
        assert "reference" in known.plain and (folder / "reference.py").exists()
        if op != "residual_code":
            # it runs by the other's files, all stages on the device or one lookup a stage
            assert (known.source is not None) == (folder / "compiled.py").exists()
            assert ("blocked" in known.plain) == (folder / "blocked.py").exists()
    folders = {path.parent.name for path in room.glob("*/api.py")}
    assert folders <= set(OPS)


def test_no_file_of_the_room_imports_another_in_a_circle():
    room = Path(_choose.__file__).parent
    files = {"codeprior.kernels." + ".".join(p.relative_to(room).with_suffix("").parts): p for p in room.rglob("*.py")}
    edges = {}
    for name, path in files.items():
        found = {n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)}
        found |= {
            f"{n.module}.{alias.name}"
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.ImportFrom)
            for alias in n.names
        }
        edges[name] = found & set(files) - {name}
    settled = set()
    while ready := {name for name, needs in edges.items() if name not in settled and needs <= settled}:
        settled |= ready
    assert set(edges) == settled, f"these import one another: {sorted(set(edges) - settled)}"


def test_triton_comes_first_on_a_gpu_and_last_on_a_cpu():
    assert list(reasons("nearest_code", "cuda")) == ["triton", "compiled", "blocked", "reference"]
    assert list(reasons("nearest_code", "cpu")) == ["compiled", "blocked", "reference", "triton"]
    assert list(reasons("convolution", "cpu")) == ["compiled", "reference"]
    assert choose("contrastive", None, "cpu", unfit={"triton": "no"}) == "blocked"


def test_explain_names_every_op_and_the_reason_for_each():
    with use_impl("nearest_code=blocked,code_stats=reference"):
        text = explain("cpu")
    assert "nearest_code: blocked runs (use_impl)" in text
    assert "code_stats: reference runs (use_impl)" in text
    assert "contrastive: blocked runs (auto)" in text
    assert "compiled: it reads CPU tensors, not cuda" in explain("cuda")
