"""Which implementation of an op runs, and why: the argument, else `use_impl`, else `CODEPRIOR_IMPL`, else the best.

`ops.py` lists the implementations. Of each that cannot run here there is a reason in words. Asking by name for one that
cannot run raises `ImplUnavailable`; nothing falls back silently.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, TypeVar

from codeprior.kernels import _compile
from codeprior.kernels._device import why_not_triton
from codeprior.kernels.ops import OPS, ImplUnavailable

Function = TypeVar("Function", bound=Callable[..., Any])
Reasons = Mapping[str, Callable[[], str | None]]

_NOTHING: Mapping[str, str] = MappingProxyType({})
_requests: list[str] = []


@contextmanager
def use_impl(name: str) -> Iterator[None]:
    """Asks for an implementation in every kernel called inside the block.

    Args:
        name: An implementation's name for all ops that have one of that name (`"triton"`), or pairs for some of them
            (`"nearest_code=blocked,contrastive=reference"`); the other ops choose by themselves.

    Raises:
        ImplUnavailable: No op has an implementation of that name; or, raised by the op, it cannot run here.

    Note:
        The choice belongs to the process, not to the thread.

    Example:
        >>> import torch
        >>> from codeprior.kernels import nearest_code, use_impl
        >>> with use_impl("reference"):
        ...     nearest_code(torch.tensor([[0.9], [0.2]]), torch.tensor([[0.0], [1.0]])).tolist()
        [1, 0]
    """
    _check_names(name, "use_impl")
    _requests.append(name)
    try:
        yield
    finally:
        _requests.pop()


def constant_while_tracing(function: Function) -> Function:
    """Marks a function whose result torch.compile takes as a constant, computed once while it traces.

    Note:
        The same as `torch.compiler.assume_constant_result`, which would import the whole compiler on the spot.
    """
    function._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


@constant_while_tracing
def choose(
    op: str,
    impl: str | None,
    device: str,
    *,
    unfit: Mapping[str, str] = _NOTHING,
    small: bool = False,
    slow: str | None = None,
) -> str:
    """Gives the name of the implementation that runs; under torch.compile the choice is made once, while tracing.

    Args:
        op: The op's name in `ops.OPS`.
        impl: The caller's argument; None leaves the choice to the context, the environment, or this function.
        device: The tensors' device, as `"cpu"` or `"cuda:1"`.
        unfit: For an implementation, why it cannot read these tensors.
        small: Whether the problem takes less time than compiling, and every implementation gives the same answer. Code
            that is not compiled yet is then not compiled for it, unless the caller asks for it by name.
        slow: Why `compiled` is not faster for these tensors; it runs all the same where it is asked for by name.

    Raises:
        ImplUnavailable: The one asked for by name is unknown, or cannot run; or none can.
    """
    if slow is not None and wanted(op, impl)[0] != "compiled":
        unfit = {"compiled": slow, **unfit}
    small = small and wanted(op, impl)[0] is None
    return pick(op, impl, reasons=reasons(op, device, unfit=unfit, small=small))


def reasons(op: str, device: str, *, unfit: Mapping[str, str] = _NOTHING, small: bool = False) -> Reasons:
    """Gives, for each implementation, best first, a function that says why it cannot run, or None."""
    known = OPS[op]

    def compiled() -> str | None:
        if device != "cpu":
            return f"it reads CPU tensors, not {device}"
        return unfit.get("compiled") or _compile.why_not(op, small=small)

    def torchvision() -> str | None:
        return unfit.get("torchvision") or (None if find_spec("torchvision") else "torchvision is not installed")

    fast = {
        "triton": lambda: why_not_triton(device) or unfit.get("triton"), "compiled": compiled,
        "torchvision": torchvision,
    }  # fmt: skip
    found: dict[str, Callable[[], str | None]] = {name: fast.get(name, lambda: None) for name in known.implementations}
    if device == "cpu" and known.triton:
        # on the CPU Triton is an interpreter for tests: never chosen, only asked for
        found["triton"] = found.pop("triton")
    return found


def pick(op: str, impl: str | None, *, reasons: Reasons) -> str:
    """Gives the implementation that was asked for, or the first that can run.

    Args:
        op: The op's name, as in `use_impl("op=name")`.
        impl: The caller's argument.
        reasons: For each implementation, best first, a function that gives the reason why it cannot run, or None.

    Raises:
        ImplUnavailable: The one asked for by name is unknown, or cannot run; or none can.
    """
    name, source = wanted(op, impl)
    if name is None or (name not in reasons and _may_be_for_another_op(name, source)):
        for candidate, why_not in reasons.items():
            if why_not() is None:
                return candidate
        found = "; ".join(f"{candidate}: {why_not()}" for candidate, why_not in reasons.items())
        raise ImplUnavailable(f"{op}: no implementation can run here ({found}).")
    if name not in reasons:
        raise ImplUnavailable(f"{op}: {source} asks for {name!r}; there are {', '.join(reasons)}.")
    reason = reasons[name]()
    if reason is not None:
        raise ImplUnavailable(f"{op}: {source} asks for {name!r}, which cannot run here: {reason}.")
    return name


def wanted(op: str, impl: str | None) -> tuple[str | None, str]:
    """Gives the name that was asked for, or None, and who asked."""
    if impl is not None:
        return impl, "impl="
    for source, text in _requested().items():
        name = _pairs(text).get(op) if "=" in text else text.strip()
        if name:
            return name, source
    return None, "auto"


def _requested() -> dict[str, str]:
    found = {"use_impl": _requests[-1] if _requests else "", "CODEPRIOR_IMPL": os.environ.get("CODEPRIOR_IMPL", "")}
    if found["CODEPRIOR_IMPL"]:
        _check_names(found["CODEPRIOR_IMPL"], "CODEPRIOR_IMPL")
    return found


def _may_be_for_another_op(name: str, source: str) -> bool:
    """Says whether a bare name may be ignored here because another op has it; otherwise it is a typo."""
    text = _requested().get(source, "=")
    return "=" not in text and any(name in op.implementations for op in OPS.values())


def _check_names(text: str, source: str) -> None:
    for op, name in _pairs(text).items() if "=" in text else [(None, text.strip())]:
        if op is not None and op not in OPS:
            raise ImplUnavailable(f"{source}: no op is called {op!r}; there are {', '.join(OPS)}.")
        known = OPS[op].implementations if op else {name for found in OPS.values() for name in found.implementations}
        if name not in known:
            of = f" of {op}" if op else ""
            raise ImplUnavailable(f"{source}: no implementation{of} is called {name!r}; there are {', '.join(known)}.")


def _pairs(text: str) -> dict[str, str]:
    pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    return {key.strip(): value.strip() for key, value in pairs.items()}
