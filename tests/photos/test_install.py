"""`codeprior[photos]` runs where there is no screen: nothing that it installs is linked to OpenGL or X11."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
# PyTorch's own libraries are gigabytes, and PyTorch's own promise
_TORCH = re.compile(r"torch|triton|nvidia-|cuda-")
_DESKTOP = re.compile(rb"lib(GL|EGL|X11|gthread-2\.0)\.so")


def _installed(words: list[str]) -> dict[str, metadata.Distribution]:
    """Gives the packages that requirements bring along, as far as they are installed here."""
    found, open_ = {}, [Requirement(word) for word in words]
    while open_:
        wanted = open_.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found or _TORCH.match(name):
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        extras = {"", *wanted.extras}
        for word in found[name].requires or []:
            further = Requirement(word)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                open_.append(further)
    return found


def test_nothing_is_linked_to_a_desktop():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = _installed(project["dependencies"] + project["optional-dependencies"]["photos"])
    assert {"numpy", "pillow", "simplejpeg"} <= set(packages)
    # what only degradations need is hundreds of megabytes
    assert not {"opencv-python", "opencv-python-headless", "numba", "llvmlite", "scipy"} & set(packages)
    linked = [
        str(path)
        for package in packages.values()
        for path in package.files or []
        if ".so" in path.suffixes and _DESKTOP.search(Path(str(package.locate_file(path))).read_bytes())
    ]
    assert linked == []
