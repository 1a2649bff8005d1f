"""Settings from outside the code: a YAML file and dotted words, checked against the fields of a recipe.

`--config FILE` gives several fields, `--set NAME=VALUE` one, with dots into what a field holds: `network.channels=64`,
`weights.l1=2`. What a run was really made with lies in its folder as `configuration.json`, and `--config` takes that as
well. Types are checked by jsonargparse, from the annotations that the settings have anyway.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from codeprior import files
from codeprior.extras import needed

Recipe = TypeVar("Recipe")
_WHO = "settings from outside the code"
_LONGEST = 2**16  # characters, and
_DEEPEST = 20  # values in one another: reading deeper ones takes time that grows with the square


def configured(name: str, recipe: Recipe, *, file: Path | None = None, words: Sequence[str] = ()) -> Recipe:
    """Gives a recipe with the fields of a file, and then those of single words, in place of its own.

    Args:
        name: What the recipe is called, for errors, and to recognise a file that belongs to another one.
        recipe: The settings, a dataclass.
        file: YAML, or JSON: fields by name, or what a run has written as `configuration.json`.
        words: `NAME=VALUE`, with dots in the name, and a value as YAML writes it.

    Raises:
        ValueError: A field is not there, a value is not of its type, or the file is no mapping or another recipe's.
        FileNotFoundError: There is no such file.
        ImportError: jsonargparse or PyYAML is not installed.
    """
    if file is not None:
        recipe = _changed(name, recipe, _read(file, name))
    for word in words:
        path, equals, value = word.partition("=")
        if not equals or not all(path.split(".")):
            raise ValueError(f"--set {word}: expected NAME=VALUE, with dots between the parts of the name.")
        if path.count(".") >= _DEEPEST:
            raise ValueError(f"--set {word[:200]}: no setting lies that deep.")
        found: Any = _values(value, f"--set {word[:200]}")
        for part in reversed(path.split(".")):
            found = {part: found}
        recipe = _changed(name, recipe, found)
    return recipe


def _changed(who: str, recipe: Any, changes: Mapping[str, Any]) -> Any:
    hints, there = get_type_hints(type(recipe)), {one.name for one in fields(recipe)}
    made: dict[str, Any] = {}
    for field, value in changes.items():
        path = f"{who}.{field}"
        if field not in there:
            raise ValueError(f"{path}: there is no such setting; there are {', '.join(sorted(there))}.")
        old = getattr(recipe, field)
        if is_dataclass(old) and isinstance(value, Mapping):
            made[field] = _changed(path, old, value)
            continue
        if is_dataclass(old) and not isinstance(value, type(old)):
            raise ValueError(f"{path}: expected its own settings by name, got {_short(value)}.")
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            # a loss that is not named keeps its weight; one that the stage does not know would do nothing
            if unknown := set(value) - set(old):
                raise ValueError(
                    f"{path}: {', '.join(sorted(map(str, unknown)))} is not there; there are {', '.join(old)}."
                )
            value = {**old, **value}
        made[field] = _typed(path, hints[field], value)
        if isinstance(old, MappingProxyType) and isinstance(made[field], Mapping):
            made[field] = MappingProxyType(made[field])  # nobody changes it afterwards
    return replace(recipe, **made)


def _typed(path: str, hint: Any, value: Any) -> Any:
    parsing = needed("jsonargparse", who=_WHO)
    parser = parsing.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        found = parser.parse_object({"value": value}).value
    except parsing.ArgumentError as error:
        expected = getattr(hint, "__name__", None) if isinstance(hint, type) else None
        said = expected or str(hint).replace("typing.", "").replace("collections.abc.", "")
        raise ValueError(f"{path}: expected {said}, got {_short(value)}.") from error
    if not _is_finite(found):
        raise ValueError(f"{path}: expected finite numbers, got {_short(value)}.")
    return found


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _short(value: Any) -> str:
    try:
        return repr(value)[:200]
    except ValueError:  # whole numbers of thousands of digits are not written out
        return f"a {type(value).__name__} of thousands of digits"


def _read(file: Path, name: str) -> Mapping[str, Any]:
    with files.opened(file) as stream:
        content = stream.read(_LONGEST + 1)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"--config {file}: it is no YAML: it is not UTF-8.") from None
    found = _values(text, f"--config {file}", json_only=file.suffix == ".json")
    if isinstance(found, Mapping) and isinstance(found.get("settings"), Mapping):
        other = found.get("recipe")
        if other is not None and other != name:
            raise ValueError(f"--config {file} holds the settings of {other}, and this is {name}.")
        found = found["settings"]
    if not isinstance(found, Mapping):
        raise ValueError(f"--config {file}: expected settings by name, got {type(found).__name__}.")
    return {key: value for key, value in found.items() if key != "recipe"}


def _values(text: str, who: str, *, json_only: bool = False) -> Any:
    """Reads plain values; what stands for others, and grows when it is written out, is refused."""
    yaml: Any = None if json_only else needed("yaml", who=_WHO)
    if len(text) > _LONGEST:
        raise ValueError(f"{who}: expected settings, got more than {_LONGEST:,} characters.")
    try:
        if yaml is None:
            return json.loads(text)
        starts = (
            yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken,
            yaml.FlowSequenceStartToken,
        )  # fmt: skip
        ends = yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken
        depth = 0
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, (yaml.AnchorToken, yaml.AliasToken)):
                raise ValueError("it has anchors (&) or aliases (*); write the values themselves")
            depth += isinstance(token, starts) - isinstance(token, ends)
            if depth > _DEEPEST:
                raise ValueError(f"its values lie more than {_DEEPEST} deep in one another")
        return yaml.safe_load(text)
    except Exception as error:  # of YAML, of recursion, and of what the parsers make of odd values
        raise ValueError(f"{who}: it is no YAML that holds settings: {' '.join(str(error).split())[:200]}") from error
