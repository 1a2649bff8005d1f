"""A gradient that is not finite, in any term and on any rank: all ranks leave the step out, count it, and stop."""

import json
import math

import pytest
import torch
from torch import nn

from codeprior import distributed
from codeprior.training import NotFinite, Saving, TorchEngine, train
from codeprior.training.steps import Guard
from tests.torture import stages
from tests.training.ranks import on_ranks

RUN = {"log_every": 1, "saving": Saving(every=100), "preview_every": 0, "progress": False}
TERMS = {
    "hq": ("pyramid", "perceptual", "adversarial", "codebook"),
    "association": ("pyramid", "perceptual", "adversarial", "codebook", "association"),
    "restoration": ("code", "feature"),
}


def poisoned(name, term, where, steps):
    """A stage in which a loss term is not a number, at some steps and on one rank."""
    options = {} if name == "restoration" else {"adversarial_start": 0, "perceptual_from": 0.0, "codes_from": 0.0}
    made = stages.stage(name, engine=TorchEngine(), **options)
    update, weights = made.update, dict(made.recipe.weights)
    object.__setattr__(made.recipe, "weights", weights)
    sound = weights[term]

    def poisoning(batch, step):
        weights[term] = math.nan if step in steps and distributed.rank() == where else sound
        return update(batch, step)

    made.update = poisoning
    return made


def _one_bad_step(name, folder):
    found = []
    for number, term in enumerate(TERMS[name]):
        for where in range(distributed.world()):
            made = poisoned(name, term, where, {1})
            run = folder / f"{term}-{where}"
            train(made, stages.stream(folder / "faces"), folder=run, steps=3, **RUN)
            states = [part.state_dict() for part in made.saved.values() if isinstance(part, nn.Module)]
            finite = all(bool(value.isfinite().all()) for state in states for value in state.values())
            found.append((term, where, finite, stages.digest(made, local=False), number))
    return found


@pytest.mark.parametrize("name", ["hq", "restoration", pytest.param("association", marks=pytest.mark.slow)])
def test_a_term_that_is_not_finite_on_one_rank_is_skipped_by_all(tmp_path, name):
    stages.stream(tmp_path / "faces")
    first, second = on_ranks(2, _one_bad_step, name, tmp_path)
    assert first == second
    assert len(first) == 2 * len(TERMS[name])
    for term, where, finite, *_ in first:
        assert finite, (term, where)
        lines = [json.loads(line) for line in (tmp_path / f"{term}-{where}" / "log.jsonl").read_text().splitlines()]
        assert [line["skipped"] for line in lines] == [0.0, 1.0, 0.0], (term, where)
    # the same step is left out whichever term and rank it was
    assert len({digest for _, _, _, digest, _ in first}) == 1


def _five_in_a_row(folder):
    made = poisoned("hq", "pyramid", 1, {2, 3, 4, 5, 6, 7})
    data = stages.stream(folder / "faces")
    try:
        train(made, data, folder=folder / "run", steps=20, **RUN)
    except NotFinite as error:
        return str(error), [data.at(step).keys.tolist() for step in range(2, 7)]
    return "no error", []


def test_five_in_a_row_end_the_run_with_the_samples_keys(tmp_path):
    stages.stream(tmp_path / "faces")
    for text, keys in on_ranks(2, _five_in_a_row, tmp_path):
        assert "gradients were not finite in 5 updates in a row, 5 in all" in text
        for step, expected in zip(range(2, 7), keys, strict=True):
            assert f"step {step}: keys {expected}" in text


def test_many_in_all_end_the_run_too():
    guard = Guard([], in_a_row=5)
    keys = torch.arange(2)
    for step in range(5):
        guard.after(10 * step, keys, torch.tensor(1.0))
        guard.after(10 * step + 1, keys, torch.tensor(0.0))
    with pytest.raises(NotFinite, match="in 1 updates in a row, 6 in all"):
        guard.after(60, keys, torch.tensor(1.0))


def test_one_in_a_thousand_is_tolerated():
    guard = Guard([], in_a_row=5, share=0.001)
    for step in range(20_000):
        guard.after(step, torch.arange(1), torch.tensor(float(step % 1001 == 1000)))
    assert guard.state() == {"skipped": 19, "run": 0}
