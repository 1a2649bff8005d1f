"""Where weights came from: what a file says of itself stays with the module, and its licence with every copy."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from codeprior.families import Published, installed_families

_MARK = "_origin"


def published_as(sha256: str) -> Published | None:
    """Gives the published weights that a checksum belongs to, or None where no installed family names it.

    Args:
        sha256: Of a file, 64 hexadecimal digits.
    """
    for family in installed_families():
        for weights in family.published:
            if weights.sha256 and weights.sha256.lower() == sha256.lower():
                return weights
    return None


def remember_origin(module: nn.Module, text: Mapping[str, str]) -> None:
    """Lets a module and all its parts remember where their weights came from.

    Args:
        module: Filled from a file.
        text: What the file says: `licence`, `source`, `source_sha256`, `data` and the like. Where it names a published
            file by its checksum and no licence, the publisher's licence is added.
    """
    kept = {key: value for key, value in text.items() if not key.startswith("codeprior.")}
    if "licence" not in kept and "source_sha256" in kept:
        published = published_as(kept["source_sha256"])
        kept |= {} if published is None else {"licence": published.licence, "published": published.name}
    for part in module.modules():
        part.__dict__[_MARK] = kept


def origin_of(module: nn.Module) -> dict[str, str]:
    """Gives what is known of where a module's weights came from.

    Args:
        module: Any module.

    Returns:
        What its file said, where it came from one file. Of a module that was put together, `licence`: the licences of
        the files that its parts came from, joined by AND; empty where no part remembers a file.
    """
    own = _remembered(module)
    if own:
        return dict(own)
    licences = dict.fromkeys(_remembered(part).get("licence", "") for part in module.modules())
    joined = " AND ".join(licence for licence in licences if licence)
    return {"licence": joined} if joined else {}


def _remembered(module: Any) -> Mapping[str, str]:
    return module.__dict__.get(_MARK, {})
