"""Runs each notebook's source and writes it as `NAME.ipynb`, for Jupyter, and as `NAME.md`, for the site.

A source is `NAME.py` in cells: `# %%` begins code, `# %% [markdown]` begins text in comments. Usage: `build.py [NAME…]`.
"""

import ast
import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "images" / "notebooks"


class Cell(NamedTuple):
    """One cell: its text or code, and which of the two it is."""

    text: str
    is_code: bool


def sources() -> list[Path]:
    """Gives the sources of all notebooks."""
    return sorted(path for path in HERE.glob("*.py") if path.name != Path(__file__).name)


def cells(source: str) -> list[Cell]:
    """Splits a source into its cells."""
    parts = re.split(r"^# %%( \[markdown\])?\n", source, flags=re.M)[1:]
    found = []
    for kind, body in zip(parts[::2], parts[1::2], strict=True):
        text = re.sub(r"^# ?", "", body, flags=re.M) if kind else body
        found.append(Cell(text.strip(), not kind))
    return found


def as_notebook(found: list[Cell]) -> str:
    """Gives a Jupyter notebook without outputs."""
    written = []
    for number, cell in enumerate(found):
        plain = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": cell.text.splitlines(True)}
        code = plain | {"cell_type": "code", "execution_count": None, "outputs": []}
        written.append(code if cell.is_code else plain)
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": written, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def run(code: str, namespace: dict) -> str:
    """Runs a cell and gives what it prints, with the value of its last line where that is an expression."""
    tree = ast.parse(code)
    last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), namespace)
        value = eval(compile(last, "<cell>", "eval"), namespace) if last else None
    return printed.getvalue() + (f"{value!r}\n" if value is not None else "")


def as_page(name: str, found: list[Cell]) -> str:
    """Runs the cells in order and gives a page of text, code, what was printed, and pictures."""
    from matplotlib import pyplot

    namespace: dict = {"__name__": "__main__"}
    parts, pictures = [], 0
    IMAGES.mkdir(parents=True, exist_ok=True)
    for cell in found:
        if not cell.is_code:
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        printed = run(cell.text, namespace)
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
        for figure in map(pyplot.figure, pyplot.get_fignums()):
            pictures += 1
            figure.savefig(IMAGES / f"{name}-{pictures}.png", dpi=80, bbox_inches="tight")
            parts.append(f"![{name}, picture {pictures}](../images/notebooks/{name}-{pictures}.png)")
        pyplot.close("all")
    title, *rest = parts
    note = (
        f"*Written by running `docs/notebooks/{name}.py`. [Download the notebook]({name}.ipynb) for Jupyter, or give it to\n"
        "[Colab](https://colab.research.google.com/#upload), where `%pip install` of codeprior's wheel with the extra `docs`\n"
        "comes first.*"
    )
    return "\n\n".join([title, note, *rest])


def main(names: list[str]) -> None:
    """Writes the named notebooks, or all."""
    import matplotlib

    matplotlib.use("Agg")
    for source in sources():
        if names and source.stem not in names:
            continue
        found = cells(source.read_text())
        source.with_suffix(".ipynb").write_text(as_notebook(found))
        source.with_suffix(".md").write_text(as_page(source.stem, found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
