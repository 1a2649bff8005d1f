"""Safetensors files from bytes, with bounds on what the format leaves open: counts, dimensions, empty tensors."""

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from codeprior.checkpoints.machine import Refused

MOST_HEADER = 2**25
"""Bytes of the header that are read; the format allows 100 million."""
MOST_DIMENSIONS = 16
"""Dimensions of a tensor that are accepted."""
_MOST_TENSORS = 100_000
_MOST_BESIDE_NONE = 2**16


def read_tensors(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Gives the tensors of a safetensors file, in memory of their own, and the text of its header.

    Args:
        content: The whole file.

    Raises:
        Refused: It is no such file, or a count or a size in it is none that weights have.
    """
    header = _header(content)
    for name, facts in header.items():
        if name != "__metadata__":
            check_sides(name, facts["shape"])
    try:
        return load(content), header.get("__metadata__", {})
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise Refused(f"cannot be read: {str(error)[:200]}") from error


def check_sides(name: str, size: Any) -> None:
    """Refuses sizes that weights do not have: a tensor without elements takes no bytes for whatever else it claims.

    Args:
        name: Of the tensor.
        size: Its sides.

    Raises:
        Refused: There are too many, or one is zero and another is large.
    """
    if len(size) > MOST_DIMENSIONS or (0 in size and max(size) > _MOST_BESIDE_NONE):
        raise Refused(f"{name[:80]} has sizes that no tensor has")


def _header(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MOST_HEADER, len(content) - 8):
        raise Refused(f"has a header of {length:,} bytes, more than are there or than is read")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not all(map(_is_entry, header.items())):
        raise Refused("has no header that describes tensors")
    if len(header) > _MOST_TENSORS:
        raise Refused(f"has {len(header):,} tensors; no checkpoint needs that")
    return header


def _is_entry(entry: tuple[str, Any]) -> bool:
    name, facts = entry
    if name == "__metadata__":
        return isinstance(facts, dict) and all(isinstance(text, str) for text in facts.values())
    sides = facts.get("shape") if isinstance(facts, dict) else None
    return isinstance(sides, list) and all(type(side) is int and side >= 0 for side in sides)
