"""Native weights: one safetensors file that says how to build the module it holds.

The header keeps the class name, the constructor arguments (`module.config`), the caller's metadata and a SHA-256 of all
of it with the tensors. Loading builds the class from a fixed list of rooms, within the size that the file itself
declares, and fills it strictly. A file can name a class; it can never name something to import, open or download.
Last room of the walk: what a trained model leaves behind.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from codeprior.devices import usable_device
from codeprior.layers.configured import build

# rooms whose configured classes a file may name; recipes join by being imported before `load`
_ROOMS = ("encoders", "codebooks", "fusion", "predictors", "decoders", "estimators", "prior", "discriminators")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save(
    path: str | Path,
    module: nn.Module,
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes a configured module to a safetensors file, whole or not at all.

    Args:
        path: Where to; an existing file is replaced in one step.
        module: A module with `config` (see `codeprior.layers.configured`).
        metadata: Further text for the header, such as a licence or a commit; keys must not start with `codeprior.`.
        dtype: Floating type of the stored tensors, such as `torch.float16`; None keeps each as it is.

    Raises:
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
    header = _header(config, metadata or {})
    tensors = {name: _stored(name, value, dtype) for name, value in module.state_dict().items()}
    header["codeprior.sha256"] = _digest(header, tensors)
    _replace(Path(path), _ordered(to_bytes(tensors, header)))


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
        Classes of a recipe are known once that recipe is imported: `import codeprior.recipes.daefr`.
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
    module = _build(path, header["codeprior.config"], tensors)
    _fill(path, module, tensors, assign=dtype is None)
    return module.to(device=device, dtype=dtype).eval()


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
    with _opened(Path(path)) as file:
        return dict(file.metadata() or {})


def _ordered(file: bytes) -> bytes:
    # the format's writer puts the text in another order at every call; equal modules are to give equal files
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + file[end:]


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


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise FileNotFoundError(f"load: {path} does not exist.")
    if not path.is_file():
        raise ValueError(f"load: {path} is not a regular file.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"load: {path} is not a whole safetensors file ({error}); "
            "for a pickled checkpoint (.pth, .ckpt) use codeprior convert."
        ) from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with _opened(path) as file:
        return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict


def _build(path: Path, recorded: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    try:
        config = _harmless(json.loads(recorded))
        with _no_larger_than(tensors), torch.random.fork_rng(devices=[]):
            return build(config)
    except Exception as error:  # whatever a made-up configuration provokes is this file's fault
        raise ValueError(f"load: {path} does not build: {error}") from error


def _harmless(value: Any) -> Any:
    """Takes from a recorded configuration what would fetch something: its weights are in the file."""
    if isinstance(value, dict):
        return {key: False if key == "pretrained" else _harmless(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_harmless(item) for item in value]
    if isinstance(value, str) and ("/" in value or ":" in value or "\\" in value):
        raise ValueError(
            f"the configuration holds {value[:60]!r}; only plain names are accepted, no paths or addresses."
        )
    return value


@contextlib.contextmanager
def _no_larger_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Stops a constructor that registers far more parameters than the file has tensors for."""
    count, elements = 2 * len(tensors) + 64, 2 * sum(value.numel() for value in tensors.values()) + 2**20

    def spend(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal count, elements
        count, elements = count - 1, elements - (parameter.numel() if parameter is not None else 0)
        if count < 0 or elements < 0:
            raise ValueError(f"the configuration asks for a larger module than the {len(tensors)} tensors of the file.")

    handle = register_module_parameter_registration_hook(spend)
    try:
        yield
    finally:
        handle.remove()


def _fill(path: Path, module: nn.Module, tensors: Mapping[str, Tensor], assign: bool) -> None:
    expected = module.state_dict()
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"surplus {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensors[name].shape)} instead of {list(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"load: {path} does not fit {type(module).__name__}: {'; '.join(problems[:3])}{more}.")
    module.load_state_dict(tensors, assign=assign)


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.part-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
