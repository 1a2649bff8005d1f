"""A batch in parts: what is global gives the batch's numbers, what is local gives those of as many ranks."""

from dataclasses import replace

import pytest
import torch

from codeprior.training import TorchEngine, WeightAverage, train
from tests.torture import stages
from tests.torture.kills import RUN
from tests.training.ranks import on_ranks

LOCAL = {"adaptive": "local", "discriminator_norm": "batch"}
GLOBAL = {"adaptive": "global", "discriminator_norm": "group"}
PRESETS = {
    "invariant": {"hq": GLOBAL, "lq": GLOBAL, "association": GLOBAL | {"negatives": "global"}, "restoration": {}},
    "paper": {
        name: LOCAL | {"generator_pass": "sequential"} | ({"negatives": "local"} if name == "association" else {})
        for name in ("hq", "lq", "association")
    },
}
FAR = 20
"""A step at which the discriminators take part."""


def gradients(folder, name, preset, *, step=FAR, **changes):
    """The gradients of one step, what it says, and the stage after it."""
    made = stages.stage(name, engine=TorchEngine(), dtype=torch.float64, **PRESETS[preset][name] | changes)
    metrics = made.update(stages.stream(folder).at(0), step)
    found = {
        f"{part}.{key}": parameter.grad.numpy().copy()
        for part, module in made.saved.items()
        if isinstance(module, torch.nn.Module)
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return found, {key: float(value) for key, value in metrics.items()}, made


def on_rank(*given, **options):
    return gradients(*given, **options)[:2]


def worst(found, truth):
    assert set(found) == set(truth)
    largest = max(float(abs(value).max()) for value in truth.values())
    return max(float(abs(found[key] - truth[key]).max()) for key in truth) / max(1.0, largest)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accumulation") / "faces"
    stages.stream(folder)
    return folder


@pytest.mark.parametrize("step", [0, FAR])
@pytest.mark.parametrize("name", stages.NAMES)
def test_parts_together_are_one_batch(faces, name, step):
    whole, said, kept = gradients(faces, name, "invariant", step=step)
    assert len(whole) > 20
    for accumulate in (2, 4):
        split, mine, made = gradients(faces, name, "invariant", accumulate=accumulate, step=step)
        # rounding of sums in another order, float64
        assert worst(split, whole) <= 1e-12
        assert mine == pytest.approx(said, rel=1e-9, abs=1e-12)
        # weights, moments, moving averages of the codes and their count of updates; Adam divides near-zero gradients
        # by themselves, so rounding grows
        for part in kept.saved:
            first, second = kept.saved[part].state_dict(), made.saved[part].state_dict()
            if isinstance(kept.saved[part], WeightAverage):
                assert first["updates"] == second["updates"] == 1
                first, second = first["module"], second["module"]
            if not isinstance(kept.saved[part], torch.optim.Optimizer):
                for key, value in first.items():
                    torch.testing.assert_close(second[key], value, rtol=0, atol=1e-6, msg=f"{part}.{key}")
            else:
                assert [state["step"] for state in first["state"].values()] == [
                    state["step"] for state in second["state"].values()
                ]


def test_codes_follow_a_batch_in_parts_once(faces):
    books = [gradients(faces, "hq", "invariant", accumulate=count)[2].model.codebook for count in (1, 4)]
    assert [int(book.step) for book in books] == [1, 1]
    # the codes' own draws come from the whole batch too, so that the same code is revived by the same vector
    for name in ("weight", "counts", "sums"):
        torch.testing.assert_close(getattr(books[1], name), getattr(books[0], name), rtol=0, atol=1e-12)


def test_running_statistics_of_a_batch_norm_are_moved_once_a_part(faces):
    made = gradients(faces, "hq", "paper", accumulate=2)[2]
    counts = {int(value) for key, value in made.objective.discriminator.state_dict().items() if "tracked" in key}
    # two parts, each of which it sees once to be fooled by and twice to judge
    assert counts == {6}


@pytest.mark.parametrize("name", ["hq", "association"])
def test_what_is_local_to_a_rank_is_local_to_a_part(faces, name):
    # the paper's codes; those of moving averages are revived by vectors that depend on the ranks
    network = replace(stages.TINY, codebook="gradient")
    whole, _, _ = gradients(faces, name, "paper", network=network)
    parts, said, _ = gradients(faces, name, "paper", accumulate=2, network=network)
    (ranks, heard), _ = on_ranks(2, _apart, faces, name, network)
    assert worst(parts, ranks) <= 1e-12
    key = "discriminator" if name == "hq" else "association"
    # a rank says what its own part was; the first of two, here the mean of both
    assert said[key] != heard[key]
    # and that is not the batch in one piece
    assert worst(parts, whole) > 1e-6


def _apart(faces, name, network):
    return on_rank(faces, name, "paper", network=network)


@pytest.mark.parametrize("name", stages.NAMES)
def test_ranks_and_parts_together_are_one_batch(faces, name):
    whole, _, _ = gradients(faces, name, "invariant")
    for split, _ in on_ranks(2, _in_two, faces, name):
        assert worst(split, whole) <= 1e-12


def _in_two(faces, name):
    return on_rank(faces, name, "invariant", accumulate=2)


def test_ranks_exchange_gradients_in_the_last_part_only(faces):
    counts = on_ranks(2, _reductions, faces)
    # one bucket of gradients for the generator, one for the discriminator, however many parts
    assert counts == [(2, 2)] * 2


def _reductions(faces):
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    found = []
    for accumulate in (1, 4):
        made = stages.stage("hq", engine=TorchEngine(), batch=8, accumulate=accumulate, **GLOBAL)
        calls = []

        def counted(state, bucket, calls=calls):
            calls.append(bucket.index())
            return allreduce_hook(state, bucket)

        for wrapped in (made.objective.network, made.objective.judge):
            wrapped.register_comm_hook(None, counted)
        made.update(stages.stream(faces, batch=8).at(0), FAR)
        found.append(len(calls))
    return tuple(found)


def test_a_run_in_parts_resumes_to_the_bit(faces, tmp_path):
    def run(folder, seed, steps):
        made = stages.stage("association", seed=seed, accumulate=2, **PRESETS["invariant"]["association"])
        train(made, stages.stream(faces), folder=tmp_path / folder, **RUN | {"steps": steps})
        return stages.digest(made)

    whole = run("whole", 0, 14)
    assert run("stopped", 0, 11) != whole
    assert run("stopped", 1, 14) == whole


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("hq", {"accumulate": 3}, "4 samples a rank cannot be worked on in 3 equal parts; choose a divisor of 4"),
        ("hq", {"accumulate": 2, "discriminator_norm": "sync"}, "cannot average over the parts of an accumulated"),
        (
            "association",
            {"accumulate": 2, "negatives": "global", "generator_pass": "sequential"},
            "global negatives of an accumulated batch need generator_pass='shared'",
        ),
    ],
)
def test_what_cannot_be_done_in_parts_is_refused(faces, name, changes, text):
    with pytest.raises(ValueError, match=text):
        stages.stage(name, **changes).update(stages.stream(faces).at(0), FAR)
