"""The wheel holds the library, the recipes under the library's name, and their data."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def _packages_named() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])


def _packages_there(folder: str, name: str) -> set[str]:
    folders = {path.parent.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}
    return {".".join((name, *path.parts)) for path in folders}


def test_pyproject_names_every_package():
    assert _packages_named() == _packages_there("codeprior", "codeprior") | _packages_there(
        "examples", "codeprior.recipes"
    )


def test_every_package_has_its_init():
    without = {
        path.parent
        for top in ("codeprior", "examples")
        for path in (ROOT / top).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert not without


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Gives a folder with the wheel of this tree unpacked into it, as `pip install --target` leaves it."""
    scratch = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(scratch)]
    subprocess.run([*build, str(clean_copy(scratch))], check=True, timeout=300, stdin=subprocess.DEVNULL)
    (wheel,) = scratch.glob("*.whl")
    target = scratch / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def clean_copy(scratch: Path) -> Path:
    # setuptools leaves `build/` and egg-info behind; not in the working tree of whoever runs the tests
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    wanted = [name for name in listed if name.startswith(("codeprior/", "examples/")) or "/" not in name]
    for name in filter(None, wanted):
        source = ROOT / name
        if source.is_file():
            (scratch / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "tree" / name).write_bytes(source.read_bytes())
    return scratch / "tree"


def test_the_wheel_imports_away_from_the_clone(installed):
    code = (
        "import codeprior, codeprior.recipes, codeprior.recipes.daefr as daefr\n"
        "print(codeprior.__file__, codeprior.recipes.__file__, daefr.__file__, sep='\\n')"
    )
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=120, check=True)
    assert all(Path(line).is_relative_to(installed) for line in finished.stdout.split("\n") if line)


def test_the_wheel_holds_every_data_file(installed):
    kinds = {".safetensors", ".typed", ".npz", ".json", ".sbatch", ".yaml"}
    for top, name in (("codeprior", "codeprior"), ("examples", "codeprior/recipes")):
        data = {path.relative_to(ROOT / top) for path in (ROOT / top).rglob("*") if path.suffix in kinds}
        assert all((installed / name / path).exists() for path in data), data
    assert (installed / "codeprior" / "py.typed").exists()


def test_the_wheel_brings_no_library_unless_a_machine_is_named(installed):
    """An install from source needs no compiler: what is compiled is compiled on first use."""
    assert not list(installed.rglob("*.so"))
    (facts,) = installed.glob("*.dist-info/WHEEL")
    assert "Tag: py3-none-any" in facts.read_text()


def test_the_wheel_says_its_licence(installed):
    (metadata,) = installed.glob("*.dist-info/METADATA")
    said = metadata.read_text()
    # the code's, and that of the weights inside
    assert "License-Expression: Apache-2.0 AND CC-BY-4.0" in said
    texts = {
        str(path.relative_to(installed)).split("licenses/")[1] for path in installed.glob("*.dist-info/licenses/**/*")
    }
    assert {"LICENSE", "examples/daefr/weights/LICENSE.md"} <= texts


def test_every_place_says_the_same_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"copyright: codeprior {version} " in (ROOT / "mkdocs.yml").read_text()
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text()


def _required() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = project["dependencies"] + [word for extra in project["optional-dependencies"].values() for word in extra]
    found = {canonicalize_name(Requirement(word).name): Requirement(word) for word in words}
    return {name: wanted for name, wanted in found.items() if name not in ("codeprior", "setuptools")}


def _constrained(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints" / name).read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines), "names and versions only"
    return {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}


def test_the_oldest_versions_are_the_lower_bounds_and_there_are_no_upper_ones():
    oldest = _constrained("oldest.txt")
    for name, wanted in _required().items():
        bounds = {part.operator: part.version for part in wanted.specifier}
        # MkDocs 2 is another program under the same name
        assert set(bounds) == ({">=", "<"} if name == "mkdocs" else {">="}), wanted
        lowest = Version(bounds[">="])
        assert oldest[name].release[: len(lowest.release)] == lowest.release, f"{name} in constraints/oldest.txt"


def test_the_known_good_versions_are_allowed_and_complete():
    known = _constrained("known-good.txt")
    for name, wanted in _required().items():
        assert wanted.specifier.contains(known[name]), f"{name} in constraints/known-good.txt"


@pytest.mark.parametrize("name", ["oldest.txt", "known-good.txt"])
def test_pinned_versions_go_together(name):
    pinned, seen = _constrained(name), 0
    # the files are of the oldest Python; newer ones ask for newer versions of some
    asked = {"extra": "", "python_version": "3.11", "python_full_version": "3.11.0"}
    # they are of an environment of their own, since they need an older Pillow
    for package in pinned.keys() - {"gradio", "trackio"}:
        try:
            here = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue
        if Version(here.version).public != pinned[package].public:
            continue  # what another version needs is not known here
        seen += 1
        for wanted in map(Requirement, here.requires or []):
            other = pinned.get(canonicalize_name(wanted.name))
            if other is not None and (wanted.marker is None or wanted.marker.evaluate(asked)):
                assert wanted.specifier.contains(other, prereleases=True), (
                    f"{package} needs {wanted}, {name} has {other}"
                )
    assert seen, "one of them is installed"
