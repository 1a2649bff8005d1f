"""Every public name says what it gives, what it takes and how it fails, and stands in the reference."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import codeprior

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"


def _public() -> dict[str, object]:
    """Gives `codeprior.<room>.<name>` and the object, for every name of a room's door and of the front door."""
    found = {}
    for room in codeprior._ROOMS:
        module = import_module(f"codeprior.{room}")
        for name in module.__all__:
            found[f"codeprior.{room}.{name}"] = getattr(module, name)
    return found


PUBLIC = _public()
DOCUMENTED = {
    line.removeprefix("::: ").strip()
    for page in REFERENCE.rglob("*.md")
    for line in page.read_text().splitlines()
    if line.startswith("::: ")
}
SPEAKING = {name: value for name, value in PUBLIC.items() if callable(value) and inspect.getmodule(value)}
CALLABLE = {name: value for name, value in SPEAKING.items() if inspect.isfunction(value) or inspect.isclass(value)}


@pytest.mark.parametrize("name", CALLABLE)
def test_a_docstring_opens_with_one_sentence(name):
    text = inspect.getdoc(CALLABLE[name])
    assert text, f"{name} has no docstring"
    first = text.split("\n\n")[0]
    assert re.search(r"[.:]$", first.strip().splitlines()[-1]), f"{name}: {first!r} is not a sentence"


@pytest.mark.parametrize("name", CALLABLE)
def test_a_docstring_says_what_it_takes(name):
    # a NamedTuple or a protocol names its fields where they are declared; an exception is raised, not called
    value = CALLABLE[name]
    if inspect.isclass(value) and (issubclass(value, (tuple, BaseException)) or getattr(value, "_is_protocol", False)):
        return
    text = (inspect.getdoc(value) or "") + (inspect.getdoc(value.__init__) or "" if inspect.isclass(value) else "")
    if _parameters(value):
        assert re.search(r"^(Args|Attributes):$", text, re.MULTILINE), f"{name} has no Args"


def _parameters(value) -> list[str]:
    if inspect.isclass(value) and value.__init__ is object.__init__:
        return []
    # a dataclass of ranges says each field's unit in the comment beside it
    if hasattr(value, "__dataclass_fields__"):
        return []
    try:
        names = list(inspect.signature(value).parameters)
    except ValueError:
        return []
    return [name for name in names if name not in {"self", "args", "kwargs"}]


@pytest.mark.parametrize("name", [name for name, value in CALLABLE.items() if inspect.isfunction(value)])
def test_a_docstring_says_how_it_fails(name):
    value = inspect.unwrap(CALLABLE[name])
    (function,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(value))).body
    if any(isinstance(node, ast.Raise) for node in ast.walk(function)):
        assert "Raises:" in (inspect.getdoc(value) or ""), f"{name} raises, and does not say when"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_stands_in_the_reference(name):
    # a directive names the object, or the whole module that it lives in
    value = PUBLIC[name]
    homes = {name, name.rsplit(".", 1)[0]}
    if inspect.getmodule(value) is not None and hasattr(value, "__name__"):
        home = f"{value.__module__}.{value.__name__}"  # pyright: ignore[reportAttributeAccessIssue]
        homes |= {home, home.rsplit(".", 1)[0]}
    assert homes & DOCUMENTED, f"{name} is on no page of docs/reference"


@pytest.mark.parametrize("room", codeprior._ROOMS)
def test_a_room_names_all_that_it_offers(room):
    module = import_module(f"codeprior.{room}")
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert not [name for name in module.__all__ if not hasattr(module, name)]
    # what a room of one file defines is public unless its name says otherwise
    kinds = ast.FunctionDef | ast.ClassDef
    defined = {node.name for node in ast.parse(inspect.getsource(module)).body if isinstance(node, kinds)}
    assert {name for name in defined if not name.startswith("_")} <= set(module.__all__)


def test_the_front_door_opens_to_the_rooms():
    for name, room in codeprior._PUBLIC.items():
        assert getattr(codeprior, name) is getattr(import_module(f"codeprior.{room}"), name)
    assert set(dir(codeprior)) >= set(codeprior.__all__)
