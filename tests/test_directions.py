"""Imports run one way: down the levels of the house, and never sideways between the rooms an image walks through."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "codeprior"
DOOR = LIBRARY / "__init__.py"
LEVELS = (
    {"shapes", "images", "devices", "extras", "files", "distributed", "_renamed"},
    {"kernels", "layers", "degradations", "checkpoints"},
    {"encoders", "codebooks", "fusion", "predictors", "decoders", "generators", "estimators"},
    {"prior", "losses", "discriminators"},
    {
        "training", "stages", "metrics", "evaluation", "photos", "restorers", "families", "plots", "weights", "hub",
    },
    {"export", "integrations", "commands", "__main__"},
)  # fmt: skip
ALONE = LEVELS[0] | LEVELS[2]
"""Rooms that never import a room of their own level: one type, `Latent`, is all that they share."""
FORMER = "examples"
OUTSIDE = {"examples", "benchmarks", "docs", "tests"}
LONGEST = 400  # lines; 300 ask whether there are two ideas


def _files() -> list[Path]:
    # `codeprior/recipes` only says where a clone has the recipes
    return sorted(path for path in LIBRARY.rglob("*.py") if path.parent not in (LIBRARY / "recipes",) and path != DOOR)


def _room(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def _level(room: str) -> int:
    return next(number for number, rooms in enumerate(LEVELS) if room in rooms)


@cache
def _imported(path: Path) -> set[str]:
    """Gives the dotted names that a file imports, wherever in the file, relative ones made absolute."""
    package = ("codeprior", *path.relative_to(LIBRARY).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = (start + (node.module or "")).strip(".")
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def _rooms_imported(path: Path) -> set[str]:
    parts = [name.split(".") for name in _imported(path)]
    return {name[1] for name in parts if name[0] == "codeprior" and len(name) > 1}


def test_every_room_has_a_level():
    rooms = {_room(path) for path in _files()}
    assert rooms <= set().union(*LEVELS), f"give these rooms a level: {rooms - set().union(*LEVELS)}"


def test_the_page_for_contributors_shows_these_levels():
    page = (ROOT / "docs" / "house" / "directions.md").read_text(encoding="utf-8")
    lines = page.split("```")[1].splitlines()[1:]
    shown = {int(line[0]): {word.strip("/") for word in line[1:].partition("     ")[0].split()} for line in lines}
    private = {"_renamed"}  # stands in no map: it only answers to former names
    assert shown == {number: rooms - private for number, rooms in enumerate(LEVELS)} | {len(LEVELS): OUTSIDE}


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_run_down_the_levels(path):
    room = _room(path)
    for other in _rooms_imported(path) - {room, "__version__"}:
        if other not in set().union(*LEVELS):
            # `import codeprior as cp` or a public name through the front door loads whatever the table says
            pytest.fail(f"{path.name} imports codeprior.{other}; inside the house, import the room itself")
        assert _level(other) <= _level(room), f"{room} (level {_level(room)}) imports {other} (level {_level(other)})"
        assert not (_level(other) == _level(room) and room in ALONE), f"{room} imports its neighbour {other}"


def test_rooms_of_one_level_do_not_import_in_a_circle():
    edges = {(_room(path), other) for path in _files() for other in _rooms_imported(path)}
    circles = {(a, b) for a, b in edges if a < b and (b, a) in edges}
    assert not circles


def test_files_do_not_import_in_a_circle():
    files = {_dotted(path): path for path in _files()}
    graph = {name: {_file_of(other, files) for other in _imported(path)} - {name, None} for name, path in files.items()}
    # raises CycleError, which names the circle
    assert set(TopologicalSorter(graph).static_order()) == set(files)


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _file_of(name: str, files: dict[str, Path]) -> str | None:
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_the_library_imports_nothing_from_outside(path):
    names = _imported(path)
    assert not {name for name in names if name.split(".")[0] in OUTSIDE}
    # families.py finds recipes by walking their package, so that no room leans on one
    assert not {name for name in names if name.startswith("codeprior.recipes")}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_recipes_import_each_other_relatively(path):
    assert not {name for name in _absolute(path) if name.split(".")[0] in {"examples", "tests", "benchmarks"}}
    assert not {name for name in _absolute(path) if name.startswith("codeprior.recipes")}


_CALLERS = [path for top in ("codeprior", "benchmarks", "docs", "tests") for path in (ROOT / top).rglob("*.py")]


@pytest.mark.parametrize("path", sorted(_CALLERS), ids=lambda path: str(path.relative_to(ROOT)))
def test_recipes_are_imported_under_one_name(path):
    assert not {name for name in _absolute(path) if name.split(".")[0] == FORMER}, "import codeprior.recipes"


def test_printed_commands_use_that_name():
    pages = [path for top in ("docs", "examples", "benchmarks") for path in (ROOT / top).rglob("*") if path.is_file()]
    texts = [ROOT / "README.md", *(path for path in pages if path.suffix in (".md", ".py", ".sh", ".sbatch", ".yaml"))]
    former = re.compile(rf"-m {FORMER}\.|\b{FORMER}\.(daefr|damage)\b")
    assert not [str(path) for path in texts if former.search(path.read_text())]


@cache
def _absolute(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return names


def test_files_hold_one_idea_each():
    tops = ("codeprior", "examples", "benchmarks", "tests")
    lines = {path: len(path.read_text().splitlines()) for top in tops for path in (ROOT / top).rglob("*.py")}
    longer = {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > LONGEST}
    assert not longer, "is there a second idea in these?"


def test_there_is_no_room_for_leftovers():
    names = {part for path in _files() for part in path.relative_to(LIBRARY).with_suffix("").parts}
    assert not names & {"utils", "util", "base", "helpers", "common", "misc"}
