"""Native weights: one safetensors file that says how to build the module it holds.

The header keeps the class name, the constructor arguments (`module.config`), the model family where one defines the
class, the caller's metadata and a SHA-256 of all of it with the tensors. Loading builds the class from a fixed list of
rooms and the installed families, within the size that the file itself declares, and fills it strictly. A file can name
a class and an installed family; it can never name something else to import, to open or to download.
It is the file that a training ends with.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from codeprior import files
from codeprior.checkpoints.archive import check_size
from codeprior.checkpoints.machine import Refused
from codeprior.checkpoints.plain import MOST_HEADER, read_tensors
from codeprior.devices import usable_device
from codeprior.families import Family, family_names, family_of, find_family, installed_families
from codeprior.layers.configured import build, configured_class
from codeprior.weights.bounds import no_larger_than
from codeprior.weights.origin import origin_of, remember_origin

Module = TypeVar("Module", bound=nn.Module)

# rooms whose configured classes a file may name; those of a family are known once its package is imported
_ROOMS = (
    "encoders",
    "codebooks",
    "fusion",
    "predictors",
    "decoders",
    "generators",
    "estimators",
    "prior",
    "discriminators",
)
_MOST = 2**16  # counts up to this are accepted for any size of the file
_DRAWS = (Tensor.normal_, Tensor.uniform_)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save(
    path: str | Path,
    module: nn.Module,
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = True,
) -> None:
    """Writes a configured module to a safetensors file, whole or not at all.

    Args:
        path: Where to; an existing file is replaced in one step, and keeps its permissions.
        module: A module with `config` (see `codeprior.layers.configured`).
        metadata: Further text for the header, such as a licence or a commit; keys must not start with `codeprior.`. The
            licence of the file that the module or its parts came from is kept: as `licence` where none is given, as
            `licence_of_origin` beside another one.
        dtype: Floating type of the stored tensors, such as `torch.float16`; None keeps each as it is.
        overwrite: Replace an existing file.

    Raises:
        FileExistsError: Something has the name and `overwrite` is off.
        TypeError: The module carries no `config`, or metadata is not text.
        ValueError: A metadata key is reserved, `dtype` is not a floating type, or a weight is outside the range of
            `dtype`.
    """
    config = getattr(module, "config", None)
    if not isinstance(config, Mapping):
        raise TypeError(
            f"save: expected a module that records its arguments, got {type(module).__name__}; "
            "decorate its class with codeprior.layers.configured."
        )
    if dtype is not None and dtype not in _FLOATS:
        raise ValueError(f"save: dtype must be a floating type such as torch.float16, got {dtype}.")
    header = _header(config, _licensed(module, metadata or {}))
    family = family_of(module)
    header |= {"codeprior.family": family} if family else {}
    tensors = {name: _stored(name, value, dtype) for name, value in module.state_dict().items()}
    header["codeprior.sha256"] = _digest(header, tensors)
    files.write(path, _ordered(to_bytes(tensors, header)), overwrite=overwrite)


def load(
    path: str | Path, *, dtype: torch.dtype | None = torch.float32, device: str | torch.device = "cpu"
) -> nn.Module:
    """Builds the module that a weights file describes and fills it strictly.

    The module comes in evaluation mode, and torch's global generator is left as it was.

    Args:
        path: A file written by `save`.
        dtype: Floating type of the module; None keeps what is stored.
        device: Where the module is put.

    Returns:
        The module, with `config` as it was saved.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is not such a file, is damaged, names an unknown class, or does not fit the module it names; or
            the device is not there.

    Note:
        Classes of installed families are found by the family that the file names; of a file that names none, as those
        written before it was recorded, all are looked through. Classes of your own must be imported before.
    """
    path, device = Path(path), usable_device("load: device", device)
    header, tensors = _read(path)
    if "codeprior.config" not in header:
        raise ValueError(
            f"load: {path} holds tensors but not how to build their module; "
            "codeprior convert makes such a file from a published checkpoint."
        )
    if header.get("codeprior.sha256") != _digest(header, tensors):
        raise ValueError(f"load: {path} is damaged: its SHA-256 is not the recorded one; fetch or copy it again.")
    for room in _ROOMS:
        if find_spec(f"codeprior.{room}"):
            import_module(f"codeprior.{room}")
    _import_family(header)
    module = _build(path, header["codeprior.config"], tensors)
    _fill(path, module, tensors, assign=dtype is None)
    remember_origin(module, header)
    return module.to(device=device, dtype=dtype).eval()


def load_as(
    path: str | Path, what: str, *kinds: type[Module], device: str | torch.device = "cpu"
) -> Module:  # fmt: skip
    """Loads the module of a weights file that must be of a kind.

    Args:
        path: A file written by `save`.
        what: Those kinds in words, with an article, for the error.
        *kinds: What it may be.
        device: Where the module is put.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: As in `load`; or the module is of another kind.
    """
    module = load(path, device=device)
    if not isinstance(module, kinds):
        raise ValueError(f"load: {path} holds a {type(module).__name__}; {what} restores faces.")
    return module


def read_family(path: str | Path) -> Family | None:
    """Gives the installed family of a weights file: the one that it names, or of an older file that of its class.

    Args:
        path: A file written by `save`.

    Returns:
        The family, or None where a block of the library or something else is in the file.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is not a safetensors file.
    """
    header = read_metadata(path)
    _import_family(header)
    written = configured_class(header.get("codeprior.class", ""))
    name = header.get("codeprior.family") or (written and family_of(written))
    return find_family(name) if name in family_names() else None


def read_metadata(path: str | Path) -> dict[str, str]:
    """Reads the header text of a weights file without loading a tensor.

    Args:
        path: A safetensors file.

    Returns:
        All header entries; `codeprior.class` and `codeprior.config` (JSON) say what it builds.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is not a safetensors file.
    """
    path = Path(path)
    length = int.from_bytes(_content(path, 8), "little")
    if length > MOST_HEADER:
        raise ValueError(f"load: {path} is not a safetensors file; its header would have {length:,} bytes.")
    return _text(path, _content(path, 8 + length))


def _import_family(header: Mapping[str, str]) -> None:
    """Imports the family that a file names, where it is installed; all of them where it names an unknown class only."""
    family = header.get("codeprior.family")
    if family in family_names():
        find_family(family)
    elif family is not None and configured_class(header.get("codeprior.class", "")) is None:
        there = ", ".join(family_names()) or "none"
        raise ValueError(f"load: the file is of the model family {family[:60]!r}; installed are {there}.")
    elif family is None and configured_class(header.get("codeprior.class", "")) is None:
        installed_families()


def _ordered(file: bytes) -> bytes:
    # the format's writer orders the text differently at every call; equal modules are to give equal files
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + file[end:]


def _licensed(module: nn.Module, metadata: Mapping[str, str]) -> dict[str, str]:
    """Gives the metadata with the licence of the files that a module came from."""
    licence = origin_of(module).get("licence")
    if licence is None or metadata.get("licence") == licence:
        return dict(metadata)
    return {**metadata, "licence_of_origin" if "licence" in metadata else "licence": licence}


def _header(config: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"save: metadata must be text, got {key!r}: {type(value).__name__}.")
        if key.startswith("codeprior."):
            raise ValueError(
                f"save: metadata key {key!r} is reserved; choose one that does not start with 'codeprior.'."
            )
    return {**metadata, "codeprior.class": config["class"], "codeprior.config": json.dumps(config, sort_keys=True)}


def _stored(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach().cpu()
    if dtype is None or not value.is_floating_point():
        return value.clone().contiguous()  # tied tensors share memory, which the format refuses
    kept = value.to(dtype, copy=True).contiguous()
    if bool((value.isfinite() & ~kept.isfinite()).any()):
        raise ValueError(f"save: {name} reaches {value.abs().max():.3g}, outside the range of {dtype}; store it wider.")
    return kept


def _digest(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    text = {key: value for key, value in header.items() if key != "codeprior.sha256"}
    digest = hashlib.sha256(json.dumps(text, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def _content(path: Path, most: int = -1) -> bytes:
    """Reads a file into new memory, because mapped memory changes when the file does."""
    try:
        with files.opened(path) as file:
            check_size(file)
            return file.read(most)
    except Refused as error:
        raise ValueError(f"load: {path} {error}.") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"load: {path} does not exist.") from None
    except OSError as error:
        raise ValueError(f"load: {path} {error.strerror}.") from error


def _text(path: Path, content: bytes) -> dict[str, str]:
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]) if len(content) >= 8 + length else None
        text = header.get("__metadata__", {}) if isinstance(header, dict) else None
        if isinstance(text, dict) and all(isinstance(value, str) for value in text.values()):
            return text
    except (ValueError, RecursionError):
        pass
    raise ValueError(
        f"load: {path} is not a whole safetensors file; for a pickled checkpoint (.pth, .ckpt) use codeprior convert."
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        tensors, text = read_tensors(_content(path))
    except Refused as error:
        raise ValueError(
            f"load: {path} is not a whole safetensors file ({error}); "
            "for a pickled checkpoint (.pth, .ckpt) use codeprior convert."
        ) from error
    return text, tensors


def _build(path: Path, recorded: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    try:
        config = _harmless(json.loads(recorded), most=max(_MOST, sum(value.numel() for value in tensors.values())))
        with torch.random.fork_rng(devices=[]):
            # built first without memory, to check that the tensors fit; only then with memory
            with no_larger_than(tensors), torch.device("meta"), _Undrawn():
                sketch = build(config)
            _check_fit(path, sketch, tensors)
            with no_larger_than(tensors):
                return build(config)
    except Exception as error:  # whatever a made-up configuration provokes is this file's fault
        text = str(error)
        raise ValueError(text if text.startswith("load: ") else f"load: {path} does not build: {text}") from error


class _Undrawn(TorchFunctionMode):
    """Leaves out the first values of weights that have no memory; PyTorch would import its whole compiler for them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _DRAWS:
            return args[0]
        kwargs = kwargs or {}
        # torch.nn.init hands its tensor on by name
        drawn = kwargs.get("tensor") if getattr(func, "__module__", None) == "torch.nn.init" else None
        return func(*args, **kwargs) if drawn is None else drawn


def _harmless(value: Any, *, most: int) -> Any:
    """Gives a configuration without what would download weights; refuses counts that the file cannot need."""
    if isinstance(value, dict):
        return {key: False if key == "pretrained" else _harmless(item, most=most) for key, item in value.items()}
    if isinstance(value, list):
        return [_harmless(item, most=most) for item in value]
    if isinstance(value, str) and ("/" in value or ":" in value or "\\" in value):
        raise ValueError(
            f"the configuration holds {value[:60]!r}; only plain names are accepted, no paths or addresses."
        )
    if type(value) is int and abs(value) > most:
        raise ValueError(f"the configuration holds the count {value}, larger than anything in a file of this size.")
    return value


def _check_fit(path: Path, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    expected = module.state_dict()
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"surplus {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensors[name].shape)} instead of {list(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    other = [name for name in expected if name in tensors and _sort(tensors[name]) != _sort(expected[name])]
    problems += [f"{name} holds {tensors[name].dtype} instead of {expected[name].dtype}" for name in other]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"load: {path} does not fit {type(module).__name__}: {'; '.join(problems[:3])}{more}.")


def _sort(value: Tensor) -> str:
    # complex numbers would silently lose their imaginary part, and fractions what follows the point
    return "complex" if value.is_complex() else "float" if value.is_floating_point() else "whole"


def _fill(path: Path, module: nn.Module, tensors: Mapping[str, Tensor], assign: bool) -> None:
    _check_fit(path, module, tensors)
    module.load_state_dict(tensors, assign=assign)
