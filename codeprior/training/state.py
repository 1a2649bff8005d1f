"""State of modules, optimisers and generators as plain tensors and JSON, and back again, to the bit.

Nothing is pickled. A `state_dict` becomes a safetensors mapping and a skeleton of JSON that says where each tensor
stood; a flat one (that of a module) keeps its own names.
"""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codeprior import distributed


class Frozen(NamedTuple):
    """The state of one part, copied to new memory on the CPU."""

    tensors: dict[str, Tensor]
    skeleton: Any
    """JSON: the nesting, with `{"tensor": name}` in place of each tensor; `{"channels_last": true}` where needed."""


def freeze(state: Mapping[str, Any]) -> Frozen:
    """Copies a `state_dict`, so that training can go on while the copy is written.

    Args:
        state: Nested dictionaries, lists and tuples of tensors and JSON values.

    Raises:
        TypeError: Something else stands in it; the text says where.
    """
    tensors: dict[str, Tensor] = {}
    return Frozen(tensors, _freeze(state, "", tensors))


def thaw(frozen: Frozen) -> Any:
    """Gives the `state_dict` back."""
    return _thaw(frozen.skeleton, frozen.tensors)


def parts_of(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Gives the parts themselves, without the wrappers that distribution and compilation put around modules."""
    return {name: _unwrap(part) for name, part in saved.items()}


def random_state() -> list[dict[str, Any]]:
    """Gives the states of the global generators of torch, CUDA, numpy and Python, one entry per rank.

    Every rank must call it; every rank gets all the entries.
    """
    numpy_state: Any = np.random.get_state(legacy=False)
    mine = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else torch.empty(0, dtype=torch.uint8),
        "numpy": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
        "numpy_rest": torch.tensor([numpy_state["state"]["pos"], numpy_state["has_gauss"]]),
        "numpy_gauss": torch.tensor(numpy_state["gauss"], dtype=torch.float64),
        "python": torch.tensor(random.getstate()[1]),
        "python_gauss": torch.tensor(
            float("nan") if random.getstate()[2] is None else random.getstate()[2], dtype=torch.float64
        ),
    }
    gathered = {name: distributed.gather(value) for name, value in mine.items()}
    return [{name: values[rank] for name, values in gathered.items()} for rank in range(distributed.world())]


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Puts one rank's entry of `random_state` back."""
    torch.set_rng_state(state["torch"])
    if state["cuda"].numel() and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    position, has_gauss = state["numpy_rest"].tolist()
    np.random.set_state(
        ("MT19937", state["numpy"].numpy().astype(np.uint32), position, has_gauss, float(state["numpy_gauss"]))
    )
    gauss = float(state["python_gauss"])
    random.setstate((3, tuple(state["python"].tolist()), None if gauss != gauss else gauss))


def _unwrap(part: Any) -> Any:
    if isinstance(part, torch.nn.parallel.DistributedDataParallel):
        return _unwrap(part.module)
    return _unwrap(part._orig_mod) if hasattr(part, "_orig_mod") else part


def _freeze(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = where or "tensor"
        # contiguous in the file; the mark says that the strides are channels-last
        tensors[name] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        marked = (
            value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
        )
        return {"tensor": name} | ({"channels_last": True} if marked else {})
    if isinstance(value, Mapping):
        inner = [(key, _freeze(item, f"{where}.{key}" if where else str(key), tensors)) for key, item in value.items()]
        if any(not isinstance(key, (str, int)) for key, _ in inner):
            raise TypeError(f"freeze: expected keys that are strings or whole numbers at {where or 'the top'}.")
        return {"pairs": [[key, item] for key, item in inner]}
    if isinstance(value, (list, tuple)):
        items = [
            _freeze(item, f"{where}.{number}" if where else str(number), tensors) for number, item in enumerate(value)
        ]
        return {"tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"freeze: expected tensors and JSON values, got a {type(value).__name__} at {where}.")


def _thaw(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_thaw(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return tensor.to(memory_format=torch.channels_last) if value.get("channels_last") else tensor
    if "tuple" in value:
        return tuple(_thaw(item, tensors) for item in value["tuple"])
    return {key: _thaw(item, tensors) for key, item in value["pairs"]}
