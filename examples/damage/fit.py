"""The network fitted to rows of statistics: quantile regression, each pass judged on other people's faces."""

import copy
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from codeprior.estimators import DamageEstimator
from codeprior.estimators.statistics import LEVELS, SPECTRAL, levels_of

QUANTILES = (0.1, 0.5, 0.9)
"""The quantiles that the three answers for each figure stand for."""

_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 3.0)  # blur, reduction, noise, quality, limit
_BATCH, _RATE, _DECAY = 256, 2e-3, 0.02
_FEWER_LEVELS = 0.3  # how often a face is taken for a smaller one, whose upper levels are missing
_JITTER = 0.3  # of the statistics, in standard deviations


class Rows(NamedTuple):
    """What the network is fitted to.

    Attributes:
        statistics: Rows of `face_statistics`.
        truth: Rows of `to_coordinates`.
    """

    statistics: Float[Tensor, "n f"]
    truth: Float[Tensor, "n 5"]


def fit(train: Rows, val: Rows, *, passes: int, seed: int, name: str = "first fit") -> DamageEstimator:
    """Fits a network and gives its state after the pass with the least loss on `val`.

    Args:
        train: Rows to learn from.
        val: Rows of other people's faces.
        passes: Passes over `train`, under a cosine rate.
        seed: Of initial weights, order and augmentation.
        name: What the progress lines call it.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = DamageEstimator()
    estimator.mean.copy_(train.statistics.mean(0))
    estimator.spread.copy_(train.statistics.std(0).clamp_min(0.05))
    steps = passes * max(1, len(train.truth) // _BATCH)
    optimizer = torch.optim.AdamW(estimator.parameters(), lr=_RATE, weight_decay=_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=0.1)
    best, kept = float("inf"), copy.deepcopy(estimator.state_dict())
    for turn in range(passes):
        order = torch.randperm(len(train.truth), generator=generator)
        for rows in order[: len(order) // _BATCH * _BATCH or None].split(_BATCH):
            statistics = _augmented(train.statistics[rows], estimator.spread, generator)
            loss = pinball(estimator(statistics), train.truth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if rate.last_epoch < steps - 1:
                rate.step()
        with torch.no_grad():
            loss = float(pinball(estimator(val.statistics), val.truth))
        if loss < best:
            best, kept = loss, copy.deepcopy(estimator.state_dict())
        if turn % 10 == 9 or turn == passes - 1:
            print(f"{name}: pass {turn + 1}, val {loss:.4f}, best {best:.4f}", flush=True)
    estimator.load_state_dict(kept)
    return estimator.eval()


@torch.no_grad()
def calibrate(estimator: DamageEstimator, rows: Rows) -> None:
    """Moves the outer quantiles in or out until a tenth of other people's faces lies beyond each.

    Args:
        estimator: A fitted network; its `widening` is changed.
        rows: Faces that it was not fitted to, with exact truth.

    Source:
        Romano, Patterson and Candès 2019, "Conformalized quantile regression", with factors in place of distances.
    """
    estimator.widening.fill_(1)
    low, middle, high = estimator(rows.statistics).unbind(-1)
    below, above = (middle - rows.truth) / (middle - low), (rows.truth - middle) / (high - middle)
    for figure in range(5):
        # what was not done to a face is seen at once, and would hide how unsure the rest is
        done = rows.truth[:, figure] != rows.truth[:, figure].min()
        done = done if figure < 4 and bool(done.any()) else torch.ones_like(done)
        for end, moved in enumerate((below, above)):
            estimator.widening[figure, end] = moved[done, figure].quantile(QUANTILES[2]).clamp_min(0.1)


def pinball(answers: Float[Tensor, "b 5 3"], truth: Float[Tensor, "b 5"]) -> Tensor:
    """Gives the pinball loss of the three quantiles, whose least is where each quantile is right.

    Args:
        answers: The network's.
        truth: In the same coordinates.
    """
    quantiles = answers.new_tensor(QUANTILES)
    short = truth[..., None] - answers
    loss = torch.maximum(quantiles * short, (quantiles - 1) * short).sum(-1)
    return (loss * answers.new_tensor(_WEIGHTS)).mean()


def _augmented(statistics: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    """Gives rows with a little noise, some without their upper levels, as of a smaller part of the same face."""
    rows = statistics + _JITTER * spread * torch.randn(statistics.shape, generator=generator)
    rows[:, SPECTRAL : SPECTRAL + LEVELS] = statistics[:, SPECTRAL : SPECTRAL + LEVELS]
    fewer = torch.rand(len(rows), generator=generator) < _FEWER_LEVELS
    kept = torch.randint(1, LEVELS, (len(rows),), generator=generator)
    missing = statistics == 0  # where a level was missing before, it stays so
    for level, place in enumerate(levels_of(LEVELS)):
        gone = fewer & (kept <= level)
        rows[gone, place] = 0
        rows[gone, SPECTRAL + level] = 0
    rows[missing] = 0
    return rows
