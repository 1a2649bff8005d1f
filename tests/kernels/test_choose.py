"""Which implementation runs is decided by argument, context, environment and fitness, in that order; never silently."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch

from codeprior.kernels import ImplUnavailable, code_stats, explain, nearest_code, residual_code, use_impl
from codeprior.kernels._choose import choose
from codeprior.kernels._device import launching, why_not_triton

TABLE = {"best": lambda: "no such chip", "good": lambda: None, "plain": lambda: None}


def test_auto_takes_the_first_that_can_run():
    assert choose("op", None, reasons=TABLE) == "good"


def test_argument_comes_before_context_before_environment(monkeypatch):
    monkeypatch.setenv("CODEPRIOR_IMPL", "plain")
    assert choose("op", None, reasons=TABLE) == "plain"
    with use_impl("good"):
        assert choose("op", None, reasons=TABLE) == "good"
        assert choose("op", "plain", reasons=TABLE) == "plain"
    assert choose("op", None, reasons=TABLE) == "plain"


def test_pairs_name_some_ops_and_leave_the_others_alone(monkeypatch):
    monkeypatch.setenv("CODEPRIOR_IMPL", "other=best, op=plain")
    assert choose("op", None, reasons=TABLE) == "plain"
    assert choose("third", None, reasons=TABLE) == "good"


def test_a_name_asks_only_the_ops_that_know_it(monkeypatch):
    rows, table = torch.randn(5, 4), torch.randn(3, 4)
    with use_impl("blocked"):
        # neither has blocks
        assert int(code_stats(rows, nearest_code(rows, table), size=3).counts.sum()) == 5
        assert residual_code(rows, table[None]).shape == (5, 1)
        assert "nearest_code: blocked runs (use_impl)" in explain("cpu")
        assert "code_stats: " in explain("cpu")
    monkeypatch.setenv("CODEPRIOR_IMPL", "blocked")
    assert choose("op", None, reasons=TABLE) == "good"
    with use_impl("op=blocked"), pytest.raises(ImplUnavailable, match="use_impl asks for 'blocked'; there are best"):
        choose("op", None, reasons=TABLE)
    with pytest.raises(ImplUnavailable, match="impl= asks for 'blocked'; there are best"):
        choose("op", "blocked", reasons=TABLE)


def test_asking_for_what_cannot_run_raises_with_the_reason():
    with pytest.raises(ImplUnavailable, match="op: impl= asks for 'best', which cannot run here: no such chip"):
        choose("op", "best", reasons=TABLE)
    with (
        use_impl("worst"),
        pytest.raises(ImplUnavailable, match="use_impl asks for 'worst'; there are best, good, plain"),
    ):
        choose("op", None, reasons=TABLE)
    with pytest.raises(ImplUnavailable, match=r"no implementation can run here \(best: no such chip\)"):
        choose("op", None, reasons={"best": TABLE["best"]})


def test_the_choice_of_a_block_ends_with_it():
    with pytest.raises(KeyError), use_impl("plain"):
        raise KeyError
    assert choose("op", None, reasons=TABLE) == "good"


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


def test_the_environment_reaches_the_op(monkeypatch):
    monkeypatch.setenv("CODEPRIOR_IMPL", "quantum")
    with pytest.raises(ImplUnavailable, match="nearest_code: CODEPRIOR_IMPL asks for 'quantum'"):
        nearest_code(torch.zeros(1, 1), torch.zeros(1, 1))


def test_explain_names_every_op_and_the_reason_for_each():
    with use_impl("nearest_code=blocked,code_stats=reference"):
        text = explain("cpu")
    assert "nearest_code: blocked runs (use_impl)" in text
    assert "code_stats: reference runs (use_impl)" in text
    assert "contrastive: blocked runs (auto)" in text
    assert "compiled: it reads CPU tensors, not cuda" in explain("cuda")
