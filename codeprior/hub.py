"""Modules in folders and on the Hugging Face hub: config.json, model.safetensors, and a card that keeps the licence.

`save_pretrained` and `from_pretrained` work on local folders without a network and without the package of the hub,
which is imported only to fetch or to push. Every class with `@configured` has the three as methods; so has `Restorer`.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeprior import files
from codeprior import weights as stored
from codeprior.checkpoints.repository import fetch_repository, is_repository, refused
from codeprior.extras import needed
from codeprior.families import family_names, find_family

__all__ = ["card", "from_pretrained", "push_to_hub", "save_pretrained"]

_MOST_CONFIG = 1 << 20  # bytes
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_UNKNOWN = "not stated by the file that these weights came from; ask its publisher before you use them"
# identifiers that the hub's card index knows; a card has the full name of every other licence
_IDENTIFIERS = {
    "apache-2.0": "apache-2.0", "mit": "mit", "cc0": "cc0-1.0", "cc0-1.0": "cc0-1.0", "cc by 4.0": "cc-by-4.0",
    "cc-by-4.0": "cc-by-4.0", "cc-by-nc-4.0": "cc-by-nc-4.0", "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
}  # fmt: skip


def save_pretrained(
    module: nn.Module,
    folder: str | Path,
    *,
    licence: str | None = None,
    data: str | None = None,
    figures: Mapping[str, float | str] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Writes a module into a folder: `model.safetensors`, `config.json` with its arguments, and a card.

    Args:
        module: A configured module.
        folder: Made where it is missing; what an earlier call wrote into it is replaced.
        licence: Of the weights; None takes that of the file that they came from. That one stays on the card in any
            case.
        data: What they were trained with, in words; None takes what the file says that they came from.
        figures: What was measured, by name, for the card.
        dtype: Floating type of the stored tensors; None keeps each as it is.

    Returns:
        The folder.

    Raises:
        TypeError: The module carries no `config`.
        ValueError: A weight is outside the range of `dtype`.
        FileExistsError: The folder holds a file of one of these names that this function did not write.
    """
    folder = Path(folder)
    _check_ours(folder)
    text = {"licence": licence, "data": data}
    origin = stored.origin_of(module)
    metadata = {key: value for key, value in origin.items() if key != "licence"}
    metadata |= {key: value for key, value in text.items() if value is not None}
    if figures:
        metadata["figures"] = json.dumps(dict(figures))
    folder.mkdir(parents=True, exist_ok=True)
    stored.save(folder / WEIGHTS, module, metadata=metadata, dtype=dtype)
    header = stored.read_metadata(folder / WEIGHTS)
    described = {
        "library_name": "codeprior",
        "family": header.get("codeprior.family"),
        "licence": header.get("licence", _UNKNOWN),
        "config": json.loads(header["codeprior.config"]),
    }
    files.write(folder / CONFIG, json.dumps(described, indent=2) + "\n", overwrite=True)
    files.write(folder / CARD, card(header, size=getattr(module, "size", None)), overwrite=True)
    return folder


def _check_ours(folder: Path) -> None:
    """Refuses a folder whose files of our names are somebody else's: config.json says who wrote them."""
    there = [name for name in (CARD, CONFIG, WEIGHTS) if os.path.lexists(folder / name)]
    try:
        ours = _read_config(folder / CONFIG)["library_name"] == "codeprior"
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if there and not ours:
        raise FileExistsError(
            f"save_pretrained: {folder} holds a {there[0]} that codeprior did not write, and it is kept; choose "
            "another folder."
        )


def from_pretrained(name: str | Path, *, revision: str | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """Gives the module of a folder, or of a repository of the hub.

    Nothing in the files is executed: the tensors are safetensors, and the class is one of this library, of an installed
    family, or one that was imported before.

    Args:
        name: A local folder; or a repository, `owner/name`, which is fetched into the hub's own cache.
        revision: Branch, tag or commit of the repository.
        device: Where the module is put.

    Returns:
        The module, in evaluation mode.

    Raises:
        FileNotFoundError: The folder does not hold `model.safetensors`, or no folder and no repository has the name.
        ConnectionError: The repository is not in the hub's cache and could not be fetched.
        ImportError: It is no folder, and the package that fetches from the hub is not installed.
        ValueError: The files are damaged, do not agree, or name an unknown class.
    """
    folder = (
        Path(name)
        if _is_folder(name)
        else fetch_repository(str(name), [WEIGHTS, CONFIG, CARD], revision=revision, who="from_pretrained")
    )
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"from_pretrained: {folder} holds no {WEIGHTS}; codeprior.hub.save_pretrained makes it."
        )
    module = stored.load(path, device=device)
    if (folder / CONFIG).is_file():
        _check_config(folder / CONFIG, module)
    return module


def push_to_hub(
    module: nn.Module,
    repository: str,
    *,
    private: bool = False,
    message: str = "Weights of codeprior",
    licence: str | None = None,
    data: str | None = None,
    figures: Mapping[str, float | str] | None = None,
) -> str:
    """Writes a module to a repository of the hub, which is made where it is missing; you must be logged in.

    Args:
        module: A configured module.
        repository: `owner/name`.
        private: Whether a new repository is for you alone.
        message: Of the commit.
        licence: As in `save_pretrained`.
        data: As in `save_pretrained`.
        figures: As in `save_pretrained`.

    Returns:
        The address of the commit.

    Raises:
        ConnectionError: The hub is not reached, or refuses.
        ImportError: The package of the hub is not installed.
        TypeError: The module carries no `config`.
        ValueError: The name can be none of a repository.
    """
    hub: Any = needed("huggingface_hub", who="push_to_hub")
    if not is_repository(repository):
        raise ValueError(f"push_to_hub: expected a repository owner/name, got {files.printable(repository)[:200]!r}.")
    with tempfile.TemporaryDirectory() as folder:
        saved = save_pretrained(module, folder, licence=licence, data=data, figures=figures)
        header = stored.read_metadata(saved / WEIGHTS)
        text = card(header, size=getattr(module, "size", None), repository=repository)
        files.write(saved / CARD, text, overwrite=True)
        try:
            api = hub.HfApi(library_name="codeprior")
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message))
        except Exception as error:  # the package's kinds differ by version
            raise refused(error, repository, who="push_to_hub") from None


def card(header: Mapping[str, str], *, size: int | None = None, repository: str = "OWNER/NAME") -> str:
    """Gives the text of a model card.

    Args:
        header: Text of a weights file, as `codeprior.weights.read_metadata` gives it.
        size: Side of the faces, pixels, of a model that restores.
        repository: Where its lines of code fetch it from.

    Returns:
        Markdown with the index that the hub reads.
    """
    family, kind = header.get("codeprior.family", ""), header.get("codeprior.class", "module")
    licence = header.get("licence", _UNKNOWN)
    index = ["library_name: codeprior", *(["pipeline_tag: image-to-image"] if size else []), *_indexed(licence)]
    tags = ["codeprior", *([family] if family in family_names() else []), *(["face-restoration"] if size else [])]
    known = f"{family}: {find_family(family).text}" if family in family_names() else family
    rows = [("class", kind), ("family", known or "a block of the library")]
    rows += [("faces", f"{size} px a side")] if size else []
    rows += [("licence of the weights", licence)]
    for key, words in (
        ("licence_of_origin", "licence of the weights that these came from"), ("data", "trained with"),
        ("degradation", "damage in training"), ("recipe", "recipe"), ("source", "made from"),
        ("source_sha256", "SHA-256 of that file"),
    ):  # fmt: skip
        rows += [(words, header[key])] if key in header else []
    use = (
        f'restorer = codeprior.Restorer.from_pretrained("{repository}")\nrestorer(face)  # a PIL image, array or tensor'
        if size
        else f'module = codeprior.hub.from_pretrained("{repository}")'
    )
    lines = ["---", *index, "tags:", *(f"- {tag}" for tag in tags), "---", "", f"# {_cell(kind)}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows), ""]
    figures = _figures(header)
    if figures:
        lines += ["## Figures", "", "| measure | value |", "|---|---|"]
        lines += [*(f"| {_cell(name)} | {_cell(str(value))} |" for name, value in figures.items()), ""]
    lines += ["## Use", "", "```python", "import codeprior", "", *use.split("\n"), "```", ""]
    lines += [
        "The code is licensed under Apache-2.0; the weights have the licence above. A restored face is a likely face, "
        "not evidence: do not use it to identify anyone.",
        "",
    ]
    return "\n".join(lines)


def _indexed(licence: str) -> list[str]:
    """Gives the lines of the card's index that name the licence."""
    known = _IDENTIFIERS.get(licence.lower())
    if known:
        return [f"license: {known}"]
    return ["license: other", f"license_name: {json.dumps(licence)}"]


def _figures(header: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = json.loads(header.get("figures", "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _cell(text: str) -> str:
    """Gives text of a file on one line, in which nothing is markup: no link, no picture, no HTML."""
    return re.sub(r"([\\`\[\]<>|])", r"\\\1", files.printable(" ".join(text.split())))


def _is_folder(name: str | Path) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # a name that no disk takes
        return False


def _read_config(path: Path) -> Any:
    """Reads a config.json that anybody may have written; ValueError where it is too large or is no JSON."""
    with files.opened(path) as file:
        content = file.read(_MOST_CONFIG + 1)
    if len(content) > _MOST_CONFIG:
        raise ValueError(f"more than the {_MOST_CONFIG} bytes that are read")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error


def _check_config(path: Path, module: Any) -> None:
    try:
        said = _read_config(path)["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"from_pretrained: {path} is no configuration that save_pretrained wrote: {error}.") from error
    if said != json.loads(json.dumps(module.config)):
        raise ValueError(
            f"from_pretrained: {path} and {WEIGHTS} beside it describe different modules; fetch both again, or remove "
            f"{CONFIG}: the tensors' file says all that is needed."
        )
