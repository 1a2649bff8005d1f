"""Libraries that a wheel brings: taken in place of compiling, for this processor only, and only for this source."""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from codeprior.kernels import _built, _compile, code_stats, explain, nearest_code
from codeprior.kernels.ops import OPS
from tests.kernels.families import families, truth

ROOT = Path(__file__).resolve().parents[2]
MACHINE = platform.machine()


@pytest.fixture
def compiler() -> list[str]:
    found = os.environ.get("CXX", "").split() or [shutil.which("c++")]
    if MACHINE not in _built.KINDS or not found[0]:
        pytest.skip("no C++ compiler is here, or wheels bring nothing for this processor")
    return found


def runnable() -> str:
    kinds = [kind for kind, (_, needs) in _built.KINDS[MACHINE].items() if needs <= _built.features()]
    return kinds[-1] if kinds else pytest.skip("this processor is older than what wheels are built for")


def test_a_library_that_a_wheel_brought_is_taken_in_place_of_compiling(compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(_built, "KINDS", {MACHINE: {runnable(): _built.KINDS[MACHINE][runnable()]}})
    for op, kept in {name: OPS[name] for name in ("nearest_code", "code_stats")}.items():
        folder = tmp_path / op
        shutil.copytree((Path(_built.__file__).parent / kept.source).parent, folder)
        source = folder / Path(kept.source).name
        _built.build(source, kept.flags, folder, machine=MACHINE, compiler=compiler)
        monkeypatch.setitem(OPS, op, kept._replace(source=str(source)))
    # neither a compiler nor a folder for what it makes
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("CODEPRIOR_CACHE", "off")
    text = explain("cpu")
    assert "nearest_code: compiled runs (auto)" in text and f"compiled code: {tmp_path}" in text
    for dim in (8, 64):
        for name, (rows, codebook) in families(dim).items():
            indices = nearest_code(rows, codebook, impl="compiled")
            assert torch.equal(indices, truth(rows, codebook)), name
            sums = code_stats(rows, indices, size=len(codebook), impl="compiled").sums
            assert torch.equal(sums, code_stats(rows, indices, size=len(codebook), impl="reference").sums)
    # a small problem takes it as well: nothing has to be compiled
    assert _compile.why_not("nearest_code", small=True) is None
    # of another version of the source it is not
    source = Path(OPS["nearest_code"].source)
    source.write_text(source.read_text() + "// another version\n")
    _built._hash.cache_clear(), _compile._loaded.clear()
    assert _compile.why_not("nearest_code") == "compiling is turned off by CODEPRIOR_CACHE"
    assert "nearest_code: blocked runs (auto)" in explain("cpu")


@pytest.mark.parametrize(
    ("machine", "missing", "kind"),
    [
        ("x86_64", set(), "avx512"),
        ("x86_64", {"avx512vl"}, "avx2"),
        ("x86_64", {"avx512vl", "fma"}, None),
        ("aarch64", set(), "neon"),
        ("riscv64", set(), None),
    ],
)
def test_the_best_kind_that_the_processor_can_run_is_taken(machine, missing, kind, tmp_path, monkeypatch):
    source, flags = tmp_path / "seven.cpp", ("-pthread",)
    source.write_text("")
    for kinds in _built.KINDS.values():
        for name in kinds:
            (tmp_path / _built.name(source, flags, name)).write_text("")
    every = set().union(*(needs for kinds in _built.KINDS.values() for _, needs in kinds.values()))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(_built, "features", lambda: frozenset(every - missing))
    found = _built.find(source, flags)
    assert found == (None if kind is None else tmp_path / _built.name(source, flags, kind))
    assert _built.find(source, ("-pthread", "-O1")) is None


def test_a_compiler_that_fails_ends_the_building_of_a_wheel(compiler, tmp_path):
    source = tmp_path / "broken.cpp"
    source.write_text("int seven() { return }\n")
    with pytest.raises(RuntimeError, match=r"could not compile broken\.cpp for"):
        _built.build(source, (), tmp_path / "out", machine=MACHINE, compiler=compiler)


@pytest.mark.slow
def test_the_wheel_of_this_machine_runs_without_a_compiler(compiler, tmp_path):
    """By the command of `setup.py`; for aarch64 the same command is to be run there, or by a cross compiler."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    tree = tmp_path / "tree"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if name.startswith(("codeprior/", "examples/")) or "/" not in name:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    environment = os.environ | {"CODEPRIOR_WHEEL": MACHINE}
    subprocess.run([*command, str(tree)], check=True, env=environment, stdin=subprocess.DEVNULL, timeout=1200)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("codeprior-") and f"-py3-none-manylinux_2_28_{MACHINE}" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    runnable()
    program = (
        "import torch, codeprior.kernels as k; print(k.explain('cpu')); torch.manual_seed(0)\n"
        "x, c = torch.randn(500, 40), torch.randn(90, 40)\n"
        "assert torch.equal(k.nearest_code(x, c, impl='compiled'), k.nearest_code(x, c, impl='reference'))\n"
    )
    environment = os.environ | {"CXX": "/no/such/compiler", "CODEPRIOR_CACHE": "off", "PYTHONSAFEPATH": "1"}
    environment["PYTHONPATH"] = str(tmp_path / "site")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    for op, known in OPS.items():
        assert known.source is None or f"{op}: compiled runs (auto)" in result.stdout
    assert f"compiled code: {tmp_path / 'site'}" in result.stdout
