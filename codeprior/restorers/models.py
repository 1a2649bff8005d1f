"""What a model that restores says of itself: its size, its options, and whether it takes a fidelity."""

import inspect
from typing import Any

from torch import nn

from codeprior.families import Option, family_of, find_family
from codeprior.shapes import Image


def side(model: Any) -> int:
    """Gives the side of the faces that a model takes, pixels.

    Args:
        model: Has `size`, or a predictor's grid and a prior's stride.

    Raises:
        TypeError: It says neither.
    """
    size = getattr(model, "size", None)
    if size is None and hasattr(model, "predictor") and hasattr(model, "prior"):
        size = model.predictor.grid[0] * model.prior.stride  # the predictor's grid decides, for models without a size
    if not isinstance(size, int):
        raise TypeError(f"Restorer: {type(model).__name__} does not say its size; give it `size`, pixels a side.")
    return size


def option_types(model: Any) -> dict[str, Option]:
    """Gives the options that the model itself or its family declares, as far as this model takes them.

    Args:
        model: Has `restore(signed, **options)`.
    """
    family = family_of(model)
    declared = getattr(model, "option_types", {} if family is None else find_family(family).options)
    taken = inspect.signature(model.restore).parameters
    return {name: option for name, option in declared.items() if name in taken}


def takes_fidelity(model: Any) -> bool:
    """Says whether a model's `restore` takes a fidelity; one whose taps are missing does not.

    Args:
        model: Has `restore(signed, **options)`.
    """
    declared = "fidelity" in inspect.signature(model.restore).parameters
    return declared and getattr(model, "taps", True) is not None


def called(model: Any, signed: Image) -> Any:
    """Gives what a call of a model gives, or None for a model that can only restore.

    Args:
        model: A module.
        signed: `b 3 H W`.
    """
    return None if type(model).forward is nn.Module.forward else model(signed)
