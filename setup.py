"""Editable installs, and the compiled libraries of a wheel: only where CODEPRIOR_WHEEL names a machine.

    CODEPRIOR_WHEEL=x86_64 pip wheel --no-deps .                              # for this machine
    CODEPRIOR_WHEEL=aarch64 CXX="aarch64-linux-gnu-g++" pip wheel --no-deps .   # by a cross compiler

All else about the package stands in pyproject.toml.
"""

import os
import re
import runpy
import shlex
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

KERNELS = Path(__file__).parent / "codeprior" / "kernels"
MACHINE = os.environ.get("CODEPRIOR_WHEEL", "")


class InPlace(editable_wheel):
    """Installs a `.pth` file with this folder, which type checkers can follow, in place of a hook, which they cannot.

    `codeprior/recipes/__init__.py` finds the packages of `examples/` by itself, so no mapping of names is needed here.
    """

    def finalize_options(self) -> None:
        self.distribution.package_dir = {"": "."}
        names = self.distribution.packages or []
        self.distribution.packages = [name for name in names if not name.startswith("codeprior.recipes.")]
        super().finalize_options()


class BuildWithLibraries(build_py):
    """Copies the package, and compiles its C++ into the copy for every kind of the machine's processors."""

    def run(self) -> None:
        super().run()
        if not MACHINE:
            return
        built, ops = (runpy.run_path(str(KERNELS / name)) for name in ("_built.py", "ops.py"))
        if MACHINE not in built["KINDS"]:
            raise SystemExit(f"CODEPRIOR_WHEEL: expected one of {', '.join(built['KINDS'])}, got {MACHINE!r}.")
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        for op in ops["OPS"].values():
            if op.source:
                folder = (Path(self.build_lib) / "codeprior" / "kernels" / op.source).parent
                built["build"](KERNELS / op.source, op.flags, folder, machine=MACHINE, compiler=compiler)


class WheelOfOnePlatform(bdist_wheel):
    """Names the platform where libraries are inside: any Python 3, as they are loaded by ctypes."""

    def get_tag(self) -> tuple[str, str, str]:
        if not MACHINE:
            return super().get_tag()
        libraries = (path.read_bytes() for path in Path(self.bdist_dir).rglob("codeprior/kernels/*/*.so"))
        # the newest symbol of the C library that any of them asks for, and no older system than PyTorch's own wheels
        versions = [int(found) for data in libraries for found in re.findall(rb"GLIBC_2\.(\d+)", data)]
        return "py3", "none", f"manylinux_2_{max(28, *versions)}_{MACHINE}"


class OfOnePlatform(Distribution):
    def has_ext_modules(self) -> bool:
        return bool(MACHINE)


setup(
    distclass=OfOnePlatform,
    cmdclass={"build_py": BuildWithLibraries, "bdist_wheel": WheelOfOnePlatform, "editable_wheel": InPlace},
)
