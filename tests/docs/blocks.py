"""Finds the code that readers will copy: fenced blocks of pages, and the examples of docstrings."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"(?P<note><!-- not run: (?P<reason>[^>]+) -->\n+)?^```python\n(?P<code>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A piece of Python on a page, the line it starts on, and why it is not run, if it is not."""

    code: str
    line: int
    reason: str | None


def blocks(text: str) -> list[Block]:
    """Gives the Python blocks of a Markdown page; `<!-- not run: reason -->` above one says that it is not run."""
    return [
        Block(match["code"], text[: match.start("code")].count("\n") + 1, match["reason"])
        for match in _FENCE.finditer(text)
    ]


def modules_with_examples() -> list[str]:
    """Gives the dotted names of library modules whose docstrings hold `>>>` examples, without importing any."""
    names = []
    for path in sorted((ROOT / "codeprior").rglob("*.py")):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, _DOCUMENTED)]
        if any(">>> " in (ast.get_docstring(node) or "") for node in nodes):
            names.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    return names


def docstring_blocks() -> list[tuple[str, str]]:
    """Gives `(file:line, code)` of every fenced Python block inside a docstring of the library."""
    found = []
    for path in sorted((ROOT / "codeprior").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, _DOCUMENTED):
                for block in blocks(ast.get_docstring(node) or ""):
                    found.append((f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", block.code))
    return found


_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
