"""The compiled lookup: kept only where a folder was chosen, and told apart from what cannot be compiled."""

import os

import pytest
import torch

from codeprior.kernels import ImplUnavailable, explain, nearest_code
from codeprior.kernels.nearest_code.compiled import why_not_compiled


def test_without_a_chosen_folder_nothing_is_compiled_or_written(tmp_path, monkeypatch):
    monkeypatch.delenv("CODEPRIOR_CACHE")
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    assert "set CODEPRIOR_CACHE" in why_not_compiled()
    assert "nearest_code: blocked runs (auto)" in explain("cpu")
    assert nearest_code(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]])).tolist() == [1]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ImplUnavailable, match="cannot run here: no folder for compiled code is chosen"):
        nearest_code(torch.zeros(1, 1), torch.zeros(1, 1), impl="compiled")


def test_all_that_is_written_is_one_file_in_the_chosen_folder(tmp_path, monkeypatch):
    if reason := why_not_compiled():
        pytest.skip(reason)
    chosen, elsewhere = tmp_path / "chosen", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("CODEPRIOR_CACHE", str(chosen))
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(elsewhere))
    assert why_not_compiled() is None
    assert [path.suffix for path in chosen.iterdir()] == [".so"]
    assert list(elsewhere.iterdir()) == []


def test_without_a_compiler_the_blocks_run(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEPRIOR_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_not_compiled() == "no C++ compiler is on the path; install one or set CXX"
    assert "nearest_code: blocked runs (auto)" in explain("cpu")


def test_a_compiler_that_fails_is_asked_once(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\necho no such flag >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CODEPRIOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(broken))
    for _ in range(2):
        assert "could not compile screen.cpp: no such flag" in why_not_compiled()
    assert (tmp_path / "asked").read_text() == "asked\n"
    assert os.listdir(tmp_path / "cache") == []
