"""The symmetric cross-entropy block by block in plain PyTorch: only one block of logits exists at a time.

Forward: running log-sum-exp of rows and columns in one pass. Backward: the blocks of logits are computed again, and
from them G = (softmax over rows + softmax over columns) / 2 − 1, whose products with the other side are the gradients.
"""

import torch
from torch import Tensor

_BLOCK = 1024
_NARROW = 60.0  # e⁻⁶⁰ is far above the smallest float32


def forward(first: Tensor, second: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gives the loss and the log-sum-exp of each row and column.

    Args:
        first: `(n, d)`.
        second: `(n, d)`.
        scale: Scalar.

    Returns:
        Scalar, `(n,)` and `(n,)`, float32 (float64 for float64).
    """
    wide = torch.promote_types(first.dtype, torch.float32)
    rows = torch.full((len(first),), -torch.inf, dtype=wide, device=first.device)
    columns, diagonal = rows.clone(), torch.empty_like(rows)
    for start in range(0, len(first), _BLOCK):
        mine = slice(start, start + _BLOCK)
        left = first[mine].to(wide) * scale.to(wide)
        for other in range(0, len(first), _BLOCK):
            theirs = slice(other, other + _BLOCK)
            logits = left @ second[theirs].to(wide).T
            if start == other:
                diagonal[mine] = logits.diagonal()
            along, across = _sums(logits)
            rows[mine] = torch.logaddexp(rows[mine], along)
            columns[theirs] = torch.logaddexp(columns[theirs], across)
    return ((rows + columns) / 2 - diagonal).mean(), rows, columns


def backward(
    first: Tensor, second: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gives the gradients of the loss.

    Args:
        first: `(n, d)`.
        second: `(n, d)`.
        scale: Scalar.
        rows: Log-sum-exp of the rows, as `forward` gave it.
        columns: Log-sum-exp of the columns.

    Returns:
        Gradients of `first`, `second` and `scale`, in the type of `rows`.
    """
    wide, count = rows.dtype, len(first)
    to_first = torch.zeros(first.shape, dtype=wide, device=first.device)
    to_second = torch.zeros_like(to_first)
    factor = scale.to(wide)
    for start in range(0, count, _BLOCK):
        mine = slice(start, start + _BLOCK)
        left = first[mine].to(wide)
        for other in range(0, count, _BLOCK):
            theirs = slice(other, other + _BLOCK)
            right = second[theirs].to(wide)
            logits = (left * factor) @ right.T
            # twice the slope times the count
            slope = (logits - rows[mine, None]).exp_().add_(logits.sub_(columns[theirs]).exp_())
            if start == other:
                slope.diagonal().sub_(2)
            to_first[mine].addmm_(slope, right)
            to_second[theirs].addmm_(slope.T, left)
    # Σ slope · similarity, row by row
    to_scale = (to_first * first).sum() * (0.5 / count)
    return to_first.mul_(factor * (0.5 / count)), to_second.mul_(factor * (0.5 / count)), to_scale


def sums(left: Tensor, right: Tensor, scale: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Gives the log-sum-exp of each row of `scale · left rightᵀ`, and its entry at column `start` + row.

    Args:
        left: `(m, d)`.
        right: `(n, d)`.
        scale: Scalar.
        start: Where the rows of `left` stand among those of `right`.

    Returns:
        `(m,)` and `(m,)`, float32 (float64 for float64).
    """
    wide = torch.promote_types(left.dtype, torch.float32)
    rows = torch.full((len(left),), -torch.inf, dtype=wide, device=left.device)
    for mine in _spans(len(left)):
        scaled = left[mine].to(wide) * scale.to(wide)
        for theirs in _spans(len(right)):
            rows[mine] = torch.logaddexp(rows[mine], (scaled @ right[theirs].to(wide).T).logsumexp(1))
    return rows, (left.to(wide) * right[start : start + len(left)].to(wide)).sum(1) * scale.to(wide)


def slopes(
    left: Tensor, right: Tensor, scale: Tensor, mine: Tensor, others: Tensor, start: int
) -> tuple[Tensor, Tensor]:
    """Gives the gradient of `left` and its share in that of the scale, for the sum over rows instead of the mean.

    Args:
        left: `(m, d)`.
        right: `(n, d)`.
        scale: Scalar.
        mine: Log-sum-exp of the rows, `(m,)`.
        others: Log-sum-exp of the columns, `(n,)`.
        start: Where the rows of `left` stand among those of `right`.

    Returns:
        `(m, d)` and a scalar, in the type of `mine`.
    """
    wide = mine.dtype
    total = torch.zeros(left.shape, dtype=wide, device=left.device)
    for rows in _spans(len(left)):
        scaled = left[rows].to(wide) * scale.to(wide)
        for columns in _spans(len(right)):
            logits = scaled @ right[columns].to(wide).T
            slope = ((logits - mine[rows, None]).exp_() + logits.sub_(others[columns]).exp_()).mul_(0.5)
            total[rows].addmm_(slope, right[columns].to(wide))
    total.sub_(right[start : start + len(left)])
    return total * scale.to(wide), (total * left).sum()


def _spans(count: int) -> list[slice]:
    return [slice(first, first + _BLOCK) for first in range(0, count, _BLOCK)]


def _sums(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of rows and columns; overwrites the logits."""
    low, high = logits.aminmax()
    if high - low > _NARROW:
        return logits.logsumexp(1), logits.logsumexp(0)
    # no sum can underflow: one exponential serves both directions
    powers = logits.sub_(high).exp_()
    return powers.sum(1).log_() + high, powers.sum(0).log_() + high
