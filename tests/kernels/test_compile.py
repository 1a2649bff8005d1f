"""Compiled code: in the user's cache, never from a folder that others can write to, rebuilt where damaged."""

import logging
import os
import subprocess
import sys
import time

import pytest
import torch

from codeprior.kernels import ImplUnavailable, _compile, explain, lookup, nearest_code
from codeprior.kernels._compile import compiled, is_compiled

TABLE = torch.tensor([[0.0], [1.0]])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A fresh cache folder that no library was loaded from."""
    if reason := _compile.why_not("nearest_code"):
        pytest.skip(reason)
    monkeypatch.setenv("CODEPRIOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small_source(tmp_path):
    source = tmp_path / "seven.cpp"
    source.write_text('extern "C" int seven() { return 7; }\n')
    return source


def test_without_a_word_the_compiled_lookup_is_kept_in_the_users_cache(cache, tmp_path, monkeypatch, caplog):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.delenv("CODEPRIOR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(elsewhere))
    with caplog.at_level(logging.INFO, "codeprior"):
        assert "nearest_code: compiled runs (auto)" in explain("cpu")
        explain("cpu")
    kept = [path for path in (tmp_path / "home" / ".cache" / "codeprior").iterdir() if path.stem.startswith("lookup-")]
    assert [path.suffix for path in kept] == [".so"]
    assert list(elsewhere.iterdir()) == []
    assert sum("compiled lookup.cpp in" in record.message for record in caplog.records) == 1


def test_the_home_folder_is_the_last_resort(monkeypatch):
    for name in ("CODEPRIOR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert _compile.folder_of_libraries() == "/home/somebody/.cache/codeprior"


@pytest.mark.parametrize("word", ["", "off"])
def test_compiling_can_be_turned_off(word, tmp_path, monkeypatch):
    monkeypatch.setenv("CODEPRIOR_CACHE", word)
    monkeypatch.chdir(tmp_path)
    assert _compile.why_not("nearest_code") == "compiling is turned off by CODEPRIOR_CACHE"
    assert "nearest_code: blocked runs (auto)" in explain("cpu")
    assert nearest_code(torch.tensor([[0.9]]), TABLE).tolist() == [1]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ImplUnavailable, match="cannot run here: compiling is turned off by CODEPRIOR_CACHE"):
        nearest_code(torch.tensor([[0.9]]), TABLE, impl="compiled")


def test_a_small_problem_does_not_wait_for_the_compiler(cache):
    assert nearest_code(torch.tensor([[0.9]]), TABLE).tolist() == [1]
    assert lookup(torch.tensor([[0.9]]), TABLE).indices.tolist() == [1]
    assert not cache.exists()
    # 2²² multiplications
    nearest_code(torch.zeros(64, 64), torch.zeros(1024, 64))
    assert len(list(cache.glob("lookup-*.so"))) == 1


def test_nothing_is_compiled_at_import(tmp_path):
    environment = os.environ | {"CODEPRIOR_CACHE": str(tmp_path / "cache"), "CXX": str(tmp_path / "no-such-compiler")}
    program = "import codeprior.kernels, codeprior.codebooks"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], env=environment, check=True, timeout=120)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_can_write_to_is_refused(mode, cache, small_source):
    cache.mkdir()
    cache.chmod(mode)
    assert "others may write into" in compiled(small_source)
    assert not is_compiled(small_source)
    assert list(cache.iterdir()) == []


def test_a_folder_that_others_could_exchange_is_refused(cache, small_source):
    cache.parent.chmod(0o777)
    assert "others could replace" in compiled(small_source)
    cache.parent.chmod(0o1777)
    _compile._loaded.clear()
    assert not isinstance(compiled(small_source), str)


def test_a_group_that_could_exchange_the_folder_is_refused_unless_it_is_the_users_own(cache, small_source, monkeypatch):
    cache.parent.chmod(0o770)
    monkeypatch.setattr(_compile, "_is_alone_in", lambda _: False)
    assert "a group may write into" in compiled(small_source)
    _compile._loaded.clear()
    monkeypatch.setattr(_compile, "_is_alone_in", lambda _: True)
    assert compiled(small_source).seven() == 7


def test_a_link_in_a_folder_that_everyone_may_write_is_refused(cache, small_source, tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "cache").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir(mode=0o700)
    monkeypatch.setenv("CODEPRIOR_CACHE", str(tmp_path / "open" / "cache"))
    assert "everyone may write into" in compiled(small_source)


def test_a_pipe_of_the_right_name_is_not_waited_for(cache, small_source):
    assert compiled(small_source).seven() == 7
    (kept,) = cache.iterdir()
    kept.unlink()
    os.mkfifo(kept)
    _compile._loaded.clear()
    _compile._was_there.cache_clear()
    assert not is_compiled(small_source)


def test_headers_of_the_environment_change_nothing(cache, small_source, tmp_path, monkeypatch):
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "number.h").write_text("#define NUMBER 8\n")
    small_source.write_text('#include "number.h"\nextern "C" int seven() { return NUMBER; }\n')
    for name in ("CPATH", "CPLUS_INCLUDE_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "headers"))
    assert "could not compile" in compiled(small_source)


def test_what_killed_compilers_left_goes_once_it_is_old(cache, small_source):
    for name, age in (("compiling-old", 10_000), ("compiling-new", 0)):
        (cache / name).mkdir(parents=True)
        (cache / name / "cc.o").write_bytes(b"x")
        os.utime(cache / name, (time.time() - age,) * 2)
    cache.chmod(0o700)
    assert compiled(small_source).seven() == 7
    assert sorted(path.name for path in cache.iterdir() if path.is_dir()) == ["compiling-new"]


def test_a_folder_of_another_user_is_refused(cache, small_source, monkeypatch):
    cache.mkdir()
    ours = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: ours + 1)
    assert "belongs to another user" in compiled(small_source)


def test_a_folder_that_cannot_be_made_is_told(tmp_path, small_source, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CODEPRIOR_CACHE", str(tmp_path / "file" / "cache"))
    assert "Not a directory" in compiled(small_source)


@pytest.mark.parametrize("damage", ["cut short", "one byte changed", "writable for others", "a link"])
def test_a_library_that_is_damaged_or_open_to_others_is_built_again(damage, cache, small_source, tmp_path):
    assert compiled(small_source).seven() == 7
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    # the file in use is left alone: what is mapped must not change
    kept.rename(tmp_path / "in use")
    if damage == "a link":
        (tmp_path / "target").write_bytes(whole)
        kept.symlink_to(tmp_path / "target")
    else:
        changed = bytes([*whole[:-1], whole[-1] ^ 1])
        kept.write_bytes({"cut short": whole[:1000], "one byte changed": changed}.get(damage, whole))
        kept.chmod(0o722 if damage == "writable for others" else 0o700)
    _compile._loaded.clear()
    assert compiled(small_source).seven() == 7
    found = [path for path in cache.iterdir() if path.read_bytes() == whole]
    assert found and not any(path.is_symlink() or path.stat().st_mode & 0o022 for path in found)


def test_another_source_gets_another_library(cache, small_source):
    assert compiled(small_source).seven() == 7
    small_source.write_text('extern "C" int seven() { return 77; }\n')
    _compile._loaded.clear()
    _compile._name.cache_clear()
    assert compiled(small_source).seven() == 77
    assert len(list(cache.iterdir())) == 2


def test_without_a_compiler_the_blocks_run(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEPRIOR_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _compile.why_not("nearest_code") == "no C++ compiler is on the path; install one or set CXX"
    assert "nearest_code: blocked runs (auto)" in explain("cpu")


def test_a_compiler_that_fails_is_asked_once(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    asked = f"echo asked >> {tmp_path}/asked; echo no such flag >&2; exit 1"
    broken.write_text(f"#!/bin/sh\ncase $* in *--version*) exit;; esac\n{asked}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CODEPRIOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(broken))
    for _ in range(2):
        assert "could not compile lookup.cpp: no such flag" in _compile.why_not("nearest_code")
    assert (tmp_path / "asked").read_text() == "asked\n"
    assert os.listdir(tmp_path / "cache") == []
