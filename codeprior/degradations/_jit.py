"""How the loops of this room are compiled: without the interpreter's lock, and kept on disk where there is a place."""

from collections.abc import Callable
from typing import Any

from codeprior.extras import needed

_njit = needed("numba", who="degradations on the CPU").njit
_OPTIONS = {"nogil": True, "error_model": "numpy"}


def exact(function: Callable[..., Any]) -> Any:
    """Compiles a function on its first call, in IEEE arithmetic.

    Numba keeps the result beside the source, or in the user's cache; where neither can be written (a read-only
    installation, no home) the function is compiled once a process instead.
    """
    try:
        return _njit(cache=True, **_OPTIONS)(function)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        return _njit(**_OPTIONS)(function)
