"""Which implementation of an op runs, and why: the argument, else `use_impl`, else `CODEPRIOR_IMPL`, else the best.

Every op has a table from the names of its implementations to a function that says why that one cannot run, or None.
Asking by name for one that cannot run raises; nothing falls back silently.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
Reasons = Mapping[str, Callable[[], str | None]]

_asked: list[str] = []


class ImplUnavailable(RuntimeError):
    """An implementation was asked for by name and cannot run here; the text says why."""


@contextmanager
def use_impl(name: str) -> Iterator[None]:
    """Asks for an implementation in every kernel called inside the block.

    Args:
        name: An implementation's name for all ops that have one of that name (`"triton"`), or pairs for some of them
            (`"nearest_code=blocked,contrastive=reference"`); the other ops choose by themselves.

    Raises:
        ImplUnavailable: Raised by the op, when it cannot run that implementation.

    Note:
        The choice belongs to the process, not to the thread.

    Example:
        >>> import torch
        >>> from codeprior.kernels import nearest_code, use_impl
        >>> with use_impl("reference"):
        ...     nearest_code(torch.tensor([[0.9], [0.2]]), torch.tensor([[0.0], [1.0]])).tolist()
        [1, 0]
    """
    _asked.append(name)
    try:
        yield
    finally:
        _asked.pop()


def choose(op: str, impl: str | None, *, reasons: Reasons) -> str:
    """Gives the name of the implementation that runs.

    Args:
        op: The op's name, as in `use_impl("op=name")`.
        impl: The caller's argument; None leaves the choice to the context, the environment, or this function.
        reasons: For each implementation, best first, a function that gives the reason why it cannot run, or None.

    Raises:
        ImplUnavailable: The one asked for by name is unknown, or cannot run; or none can.
    """
    name, source = wanted(op, impl)
    if name is None or (name not in reasons and _is_meant_for_others(op, name, source)):
        for candidate, why_not in reasons.items():
            if why_not() is None:
                return candidate
        told = "; ".join(f"{candidate}: {why_not()}" for candidate, why_not in reasons.items())
        raise ImplUnavailable(f"{op}: no implementation can run here ({told}).")
    if name not in reasons:
        raise ImplUnavailable(f"{op}: {source} asks for {name!r}; there are {', '.join(reasons)}.")
    reason = reasons[name]()
    if reason is not None:
        raise ImplUnavailable(f"{op}: {source} asks for {name!r}, which cannot run here: {reason}.")
    return name


def _is_meant_for_others(op: str, name: str, source: str) -> bool:
    """Whether a name stands for every op that knows it, and some op does: a misspelt one must not go unnoticed."""
    asked = {"use_impl": _asked[-1] if _asked else "", "CODEPRIOR_IMPL": os.environ.get("CODEPRIOR_IMPL", "")}
    if "=" in asked.get(source, "="):
        return False
    from codeprior.kernels._explain import names

    return name in names()


def constant_while_tracing(function: Function) -> Function:
    """Marks a function whose result torch.compile takes as a constant, computed once while it traces.

    Note:
        The same as `torch.compiler.assume_constant_result`, which would import the whole compiler on the spot.
    """
    function._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


def wanted(op: str, impl: str | None) -> tuple[str | None, str]:
    """Gives the name that was asked for, or None, and who asked."""
    if impl is not None:
        return impl, "impl="
    asked = _asked[-1] if _asked else ""
    for text, source in ((asked, "use_impl"), (os.environ.get("CODEPRIOR_IMPL", ""), "CODEPRIOR_IMPL")):
        name = _named(op, text)
        if name:
            return name, source
    return None, "auto"


def _named(op: str, text: str) -> str | None:
    if "=" not in text:
        return text.strip() or None
    pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    return {key.strip(): value.strip() for key, value in pairs.items()}.get(op)
