"""How many codes a method predicts correctly, and how many it uses; its pictures are measured elsewhere."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from codeprior.evaluation.methods import Method
from codeprior.metrics.codes import code_accuracy, codebook_usage
from codeprior.metrics.journal import Entry
from codeprior.shapes import Image

_RIGHT, _INDICES = "right codes", "codes"


class Codes:
    """Right codes and used codes of methods under conditions; entries of a journal are enough to count them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}
        self._sizes: dict[tuple[str, str], int] = {}

    @staticmethod
    def restored(method: Method, faces: Image, truth: Tensor) -> tuple[Image, list[dict[str, Tensor]]]:
        """Gives what a method restores, and for each face what is kept of its codes.

        Args:
            method: One whose model gives `.logits` when called; for others nothing is kept.
            faces: What it is shown.
            truth: The teacher's codes, `b h w` or `b m h w`.
        """
        seen: list[Any] = []
        model = method.model
        assert isinstance(model, nn.Module)
        # the network runs inside `restore`; a hook there saves a second pass
        hook = model.register_forward_hook(lambda _, __, given: seen.append(getattr(given, "logits", None)))
        try:
            image = method.restore(faces)
        finally:
            hook.remove()
        if not seen or any(logits is None for logits in seen):
            return image, [{_RIGHT: torch.empty(0), _INDICES: torch.empty(0)} for _ in faces]
        logits = torch.cat([part.cpu() for part in seen])
        if logits.shape[:-1] != truth.shape:
            return image, [{_RIGHT: torch.empty(0), _INDICES: torch.empty(0)} for _ in faces]
        # several tables of residual codes are counted as if they were one grid
        flat, true = logits.flatten(1, -3), truth.flatten(1, -2)
        right, indices = code_accuracy(flat, true), flat.argmax(-1)
        return image, [{_RIGHT: right[row, None], _INDICES: indices[row].flatten()} for row in range(len(faces))]

    def add(self, condition: str, method: Method, entry: Entry) -> None:
        """Counts one face.

        Args:
            condition: Its name.
            method: Whose.
            entry: What `restored` gave, kept in an entry.
        """
        if not shown_codes(entry) or not entry.arrays[_INDICES].numel():
            return
        key = (condition, method.name)
        self._seen.setdefault(key, []).append((entry.arrays[_RIGHT], entry.arrays[_INDICES]))
        self._sizes[key] = int(getattr(getattr(method.model, "prior", None), "size", 0))

    def summaries(self) -> dict[str, dict[str, dict[str, float]]]:
        """Gives accuracy, used codes, their share and perplexity, by condition and method."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for (condition, method), seen in self._seen.items():
            indices = torch.cat([row for _, row in seen]).long()
            size = max(self._sizes[condition, method], int(indices.max()) + 1)
            usage = codebook_usage(indices, size)._asdict()
            accuracy = float(torch.cat([right for right, _ in seen]).mean())
            found.setdefault(condition, {})[method] = {"accuracy": accuracy, **usage}
        return found


def shown_codes(entry: Entry) -> bool:
    """Says whether an entry holds what is counted.

    Args:
        entry: Of a journal.
    """
    arrays: Mapping[str, Tensor] = entry.arrays
    return _RIGHT in arrays
