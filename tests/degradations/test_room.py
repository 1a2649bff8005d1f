"""The room as a whole: its modules import one another in one direction."""

import ast
from pathlib import Path

import codeprior.degradations

ROOM = Path(codeprior.degradations.__file__).parent


def _imported(path: Path) -> set[str]:
    """The modules of the room that a module imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found


def test_no_module_imports_itself_by_way_of_others():
    edges = {path.stem: _imported(path) for path in ROOM.glob("*.py") if path.stem != "__init__"}
    assert len(edges) > 15

    def reached(start: str) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            new = edges.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        return seen

    assert not {module for module in edges if module in reached(module)}
