"""What is measured: restorers by name, from weights files and options, and what their figures depend on.

A word such as `DAEFR, auto=daefr.safetensors?fidelity=auto` names a method, its weights and its options. Without
`fidelity=auto` the model alone is measured: it is shown the degraded face at its own size, and whatever it answers is
measured. With it the whole `Restorer` is measured: it is shown the degraded face at the size of degradation, estimates
the damage there, chooses the fidelity, and may leave the picture as it is. All answers are resized to the size of
the table, so that models of different sizes can stand in one.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from codeprior.families import family_of
from codeprior.images import resize, to_signed, to_unit
from codeprior.metrics.provenance import checksum
from codeprior.photos.faces import match_colour
from codeprior.shapes import Image

Restore = Callable[[Image], Image]
"""Unit images to unit images."""

AUTO = "auto"
_LIBRARY = Path(__file__).parents[1]
_DECIDING = ("estimators", "photos")  # rooms whose code and weights choose what a `Restorer` does with a face
INPUT, CLEAN, TEACHER = "input", "clean", "reconstruction by the teacher"
"""Names that no method may have."""


class Asked(NamedTuple):
    """A method as a command is asked for it.

    Attributes:
        name: How tables call it.
        recipe: The family that reads the weights; empty for the one that they name.
        weights: A file, or a name that the family knows.
        options: Of its `restore`, such as the fidelity.
    """

    name: str
    recipe: str
    weights: str
    options: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of a table.

    Args:
        name: How tables call it.
        restore: Unit images to unit images.
        takes: What it is shown: the `degraded` face at the size of the table, the degraded face at the size of
            degradation (`large`), or the `clean` face, of which a row of reconstructions is made.
        stamp: A digest of what its figures depend on besides the faces; where it is empty, everything is measured anew.
        about: Recipe, weights, checksum, options, and the model's size where it is not that of the table; JSON values
            for the results' settings.
        model: The network, where its codes may be counted.
    """

    name: str
    restore: Restore
    takes: Literal["degraded", "large", "clean"] = "degraded"
    stamp: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    model: nn.Module | None = None


class Methods(NamedTuple):
    """What `load_methods` gives.

    Attributes:
        methods: In the order asked for.
        size: Side of the faces that are measured, pixels.
    """

    methods: list[Method]
    size: int


def asked_method(word: str, *, recipes: Iterable[str] = (), recipe: str = "") -> Asked:
    """Reads `NAME=WEIGHTS`, `NAME=RECIPE:WEIGHTS` and `NAME=WEIGHTS?option=value&option=value`.

    Args:
        word: What was given.
        recipes: Names that may stand before the colon.
        recipe: The family where none stands before the colon; empty for the one that the weights name.

    Raises:
        ValueError: The word has no name or no weights, its name is taken, or an option has no value.

    Example:
        >>> asked_method("taps=daefr.safetensors?fidelity=0.5").options
        {'fidelity': 0.5}
    """
    name, equals, target = word.partition("=")
    path, _, query = target.partition("?")
    if not (name and equals and path) or name in (INPUT, CLEAN, TEACHER):
        raise ValueError(
            f'expected --method "NAME=WEIGHTS" or "NAME=WEIGHTS?option=value" with a name other than input and clean, '
            f"got {word!r}."
        )
    options: dict[str, Any] = {}
    for part in query.split("&") if query else ():
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            raise ValueError(f"--method {name}: expected options such as fidelity=auto or fidelity=0.5, got {part!r}.")
        options[option] = _value(value)
    kind, colon, rest = path.partition(":")
    return Asked(name, kind, rest, options) if colon and kind in recipes else Asked(name, recipe, path, options)


def load_methods(
    asked: Sequence[Asked], load: Callable[[Asked], Any], *, size: int | None = None, colour: bool = False
) -> Methods:
    """Loads the restorers that are asked for.

    Args:
        asked: What `asked_method` read.
        load: Gives the `Restorer` of one of them.
        size: Side of the faces that are measured, pixels. A restorer of another size is shown the degraded face at its
            own, and its answer is resized. Where nothing is given it is the restorers' own, 512 without restorers.
        colour: Also each method with the coarse colours of its input, under a name of its own.

    Raises:
        ValueError: Two methods have one name, or they restore different sizes and no size is given.
    """
    if len({one.name for one in asked}) < len(asked):
        raise ValueError(f"--method: expected different names, got {', '.join(one.name for one in asked)}.")
    loaded = {one.name: load(one) for one in asked}
    sizes = {name: restorer.size for name, restorer in loaded.items()}
    side = size or next(iter(sizes.values()), 512)
    if size is None and any(other != side for other in sizes.values()):
        raise ValueError(
            "--method: expected models of one size, or --size to resize all to it; got models of different sizes, "
            f"{sizes}."
        )
    methods = [_method(one, loaded[one.name], side) for one in asked]
    plain = [method for method, one in zip(methods, asked, strict=True) if not _is_auto(one)]
    return Methods(methods + [_matched(method, side) for method in plain if colour], side)


def teacher_method(teacher: nn.Module, *, sha256: str = "", batch: int = 16) -> Method:
    """Gives the row that says how well the teacher reconstructs clean faces: encoded, quantized and decoded.

    Args:
        teacher: A VQGAN.
        sha256: Of its weights file.
        batch: Faces at once.
    """

    def reconstruct(clean: Image) -> Image:
        return _in_parts(clean, batch, lambda part: teacher(to_signed(part)).image)

    about = {"weights": "teacher", "sha256": sha256 or state_checksum(teacher)}
    return Method(
        name=TEACHER, restore=reconstruct, takes="clean", about=about, stamp=_stamp(about["sha256"], {}, teacher)
    )


def weights_checksum(path: str | Path) -> str:
    """Gives the SHA-256 of a weights file; empty for weights that ship under a name.

    Args:
        path: The file.
    """
    return checksum(path) if Path(path).is_file() else ""


def state_checksum(model: nn.Module) -> str:
    """Gives the SHA-256 of a network's state, for weights that are no file.

    Args:
        model: The network.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _is_auto(asked: Asked) -> bool:
    return asked.options.get("fidelity") == AUTO


def _method(asked: Asked, restorer: Any, side: int) -> Method:
    about: dict[str, Any] = {
        "recipe": asked.recipe or family_of(restorer.model) or "",
        "weights": Path(asked.weights).name,
        "sha256": weights_checksum(asked.weights) or state_checksum(restorer.model),
    }
    about |= {"options": asked.options} if asked.options else {}
    if restorer.size != side:
        about["size"] = restorer.size
    if _is_auto(asked):
        estimator = getattr(restorer, "estimator", None)
        parts = [restorer, restorer.model, *([estimator] if estimator is not None else [])]
        state = state_checksum(estimator) if isinstance(estimator, nn.Module) else ""
        return Method(
            name=asked.name, takes="large", about=about,
            restore=lambda faces: resize(restorer(faces, **asked.options), side),
            stamp=_stamp(about["sha256"] + state + _deciding(), asked.options, *parts),
        )  # fmt: skip

    def restore(faces: Image) -> Image:
        device = getattr(restorer, "device", "cpu")
        restored = _in_parts(
            resize(faces, restorer.size),
            getattr(restorer, "batch", 16),
            lambda part: restorer.model.restore(to_signed(part.to(device)), **asked.options),
        )
        return resize(restored, side)

    stamp = _stamp(about["sha256"], asked.options, restorer.model)
    if restorer.size != side:  # its grid of codes is not that of a teacher at the size of the table
        return Method(name=asked.name, restore=restore, takes="large", stamp=stamp, about=about)
    return Method(name=asked.name, restore=restore, stamp=stamp, about=about, model=restorer.model)


def _matched(method: Method, side: int) -> Method:
    return replace(
        method, name=f"{method.name}, colours matched", model=None, stamp=f"{method.stamp} colours",
        restore=lambda faces: match_colour(method.restore(faces), resize(faces, side)),
        about={**method.about, "colours": "of the input, match_colour"},
    )  # fmt: skip


def _in_parts(faces: Image, batch: int, restore: Restore) -> Image:
    with torch.inference_mode():
        return torch.cat([to_unit(restore(part)).cpu() for part in faces.split(batch)])


def _deciding() -> str:
    """Gives a digest of the code and weights by which a `Restorer` decides what to do with a face."""
    kept = (path for room in _DECIDING for path in (_LIBRARY / room).rglob("*"))
    return "".join(sorted({checksum(path)[:16] for path in kept if path.suffix in (".py", ".safetensors")}))


def _stamp(weights: str, options: Mapping[str, Any], *parts: Any) -> str:
    """Gives a digest of weights, options and the source files of everything that takes part."""
    kinds = {type(one) for part in parts for one in (part.modules() if isinstance(part, nn.Module) else [part])}
    own = {base for kind in kinds for base in kind.__mro__ if base.__module__.split(".")[0] == "codeprior"}
    sources = sorted({checksum(inspect.getfile(kind)) for kind in own})
    text = repr([weights, sorted(options.items()), sources])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
