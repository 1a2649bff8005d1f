"""Editable installs: everything else about the package stands in pyproject.toml."""

from setuptools import setup
from setuptools.command.editable_wheel import editable_wheel


class InPlace(editable_wheel):
    """Installs a `.pth` file with this folder, which type checkers can follow, in place of a hook, which they cannot.

    `codeprior/recipes/__init__.py` finds the packages of `examples/` by itself, so no mapping of names is needed here.
    """

    def finalize_options(self) -> None:
        self.distribution.package_dir = {"": "."}
        names = self.distribution.packages or []
        self.distribution.packages = [name for name in names if not name.startswith("codeprior.recipes.")]
        super().finalize_options()


setup(cmdclass={"editable_wheel": InPlace})
