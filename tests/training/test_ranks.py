"""Many ranks do what one does: the same gradients, the same data, the same end; and they stop and skip together."""

import os
import signal

import numpy as np
import pytest
import torch

from codeprior import distributed
from codeprior.training import AccelerateEngine, Checkpoints, FabricEngine, Saving, Stopped, TorchEngine, train
from codeprior.training.checkpoint import read_manifest
from tests.torture import stages
from tests.training.ranks import on_ranks
from tests.training.toy import Toy, digest, stream, write_faces

# "invariant": everything that is local to a rank in the paper's preset is global, so the split cannot matter
INVARIANT = {
    "hq": {"adaptive": "global", "discriminator_norm": "group"},
    "lq": {"adaptive": "global", "discriminator_norm": "group"},
    "association": {"adaptive": "global", "discriminator_norm": "group", "negatives": "global"},
    "restoration": {},
}


def gradients(name, folder, engine=None, batch=4):
    """The gradients of one step on float64, with the adversarial part on."""
    made = stages.stage(name, engine=engine, dtype=torch.float64, batch=batch, **INVARIANT[name])
    made.update(stages.stream(folder, batch=batch).at(0), 20)
    return {
        f"{part}.{key}": parameter.grad.clone()
        for part, module in made.saved.items()
        if isinstance(module, torch.nn.Module)
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("name", stages.NAMES)
def test_one_rank_of_four_is_two_of_two_is_four_of_one(tmp_path, name):
    stages.stream(tmp_path / "faces")
    whole = gradients(name, tmp_path / "faces")
    assert len(whole) > 20
    for world in (2, 4):
        for rank, split in enumerate(on_ranks(world, _on_rank, name, tmp_path / "faces")):
            assert set(split) == set(whole)
            # rounding of sums in another order, float64
            assert _apart(split, whole) <= 1e-12, (world, rank)


@pytest.mark.parametrize("name", stages.NAMES)
def test_one_rank_of_thirty_two_is_eight_of_four(tmp_path, name):
    whole_stream = stages.stream(tmp_path / "faces", batch=32)
    whole = gradients(name, tmp_path / "faces", batch=32)
    found = on_ranks(8, _share_of_thirty_two, name, tmp_path / "faces", timeout=120.0)
    # each rank reads its own four, in order
    keys, pixels = (np.concatenate([share[place] for share in found]) for place in (1, 2))
    assert np.array_equal(keys, whole_stream.at(0).keys.numpy())
    assert np.array_equal(pixels, whole_stream.at(0).clean.numpy())
    for rank, (split, *_) in enumerate(found):
        assert _apart(split, whole) <= 1e-12, rank
    # the comparison would see a mistake: the same step on half of the batch is another
    assert _apart(_on_rank(name, tmp_path / "faces", 16), whole) > 1e-6


def _apart(split, whole):
    assert set(split) == set(whole)
    worst = max(float((torch.from_numpy(split[key]) - whole[key]).abs().max()) for key in whole)
    return worst / max(1.0, *(float(value.abs().max()) for value in whole.values()))


def _on_rank(name, faces, batch=4):
    return {key: value.numpy() for key, value in gradients(name, faces, TorchEngine(), batch).items()}


def _share_of_thirty_two(name, faces):
    mine = stages.stream(faces, batch=32).at(0)
    return _on_rank(name, faces, 32), mine.keys.numpy(), mine.clean.numpy()


def test_ranks_together_see_the_stream_of_one(tmp_path):
    data = stream(write_faces(tmp_path / "faces", count=13))
    data.batch = 8
    for step in range(30):
        whole = data.at(step)
        for world in (1, 2, 4, 8):
            shares = [data.share(step, rank=rank, world=world) for rank in range(world)]
            for name in ("clean", "keys", "indices", "flipped"):
                assert torch.equal(getattr(whole, name), torch.cat([getattr(share, name) for share in shares]))


def test_loader_workers_and_starts_change_nothing(tmp_path):
    data = stream(write_faces(tmp_path / "faces"))
    plain = list(data.between(0, 10))
    state = torch.get_rng_state()
    for workers in (1, 3):
        data.workers = workers
        for mine, theirs in zip(plain[4:], data.between(4, 10), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine[:4], theirs[:4], strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def _trained(name, folder, kind):
    engine = {"torch": TorchEngine, "accelerate": _accelerate, "fabric": _fabric}[kind]()
    made = stages.stage(name, engine=engine, dtype=torch.float64, **INVARIANT[name])
    data = stages.stream(folder)
    for step in range(8, 14):
        made.update(data.at(step), step)
    return {key: value.numpy() for key, value in _weights(made).items()}


def _weights(made):
    return {
        f"{part}.{key}": value.detach()
        for part, module in made.saved.items()
        if isinstance(module, torch.nn.Module)
        for key, value in module.state_dict().items()
    }


def _accelerate():
    from accelerate import Accelerator, DistributedDataParallelKwargs

    _environment()
    return AccelerateEngine(
        Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    )


def _fabric():
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    _environment()
    fabric = Fabric(
        accelerator="cpu",
        devices=distributed.world(),
        strategy=DDPStrategy(process_group_backend="gloo", broadcast_buffers=False),
    )
    fabric.launch()
    return FabricEngine(fabric)


def _environment():
    rank, world = distributed.rank(), distributed.world()
    found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    os.environ.update({key: str(value) for key, value in found.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999", "TORCHELASTIC_RUN_ID": "test"})


@pytest.mark.parametrize("kind", ["accelerate", "fabric"])
def test_every_engine_finds_the_same_weights(tmp_path, kind):
    pytest.importorskip({"accelerate": "accelerate", "fabric": "lightning_fabric"}[kind])
    stages.stream(tmp_path / "faces")
    plain = on_ranks(2, _trained, "hq", tmp_path / "faces", "torch")[0]
    other = on_ranks(2, _trained, "hq", tmp_path / "faces", kind)
    for found in other:
        for key, value in plain.items():
            # six Adam steps on float64; the adapters sum the surrogate losses in another order
            np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-11, err_msg=key)


def _run(faces, folder, options):
    made = Toy(seed=distributed.rank())
    made.net = TorchEngine().wrap(made.net)
    made.optimizer = torch.optim.Adam(made.net.parameters(), lr=1e-2)
    try:
        train(made, stream(faces), folder=folder, steps=12, saving=Saving(every=4), log_every=3, preview_every=6,
              progress=False, **options)  # fmt: skip
    except Stopped as stop:
        return f"stopped {stop.code}", ""
    return "done", digest(getattr(made.net, "module", made.net)[0])


def test_two_ranks_resume_to_the_bit_and_also_as_one(tmp_path):
    faces = write_faces(tmp_path / "faces")
    ends = on_ranks(2, _run, faces, tmp_path / "whole", {})
    assert ends[0] == ends[1]
    on_ranks(2, _run, faces, tmp_path / "run", {"minutes": 0})
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [4, 8, 10]
    assert on_ranks(2, _run, faces, tmp_path / "run", {}) == ends
    manifest = read_manifest(tmp_path / "run" / "checkpoints" / "step-00000012")
    assert manifest["world"] == 2
    assert {"random-0", "random-1"} <= set(manifest["files"])
    # one process goes on with what two wrote; sums round differently, so only the way is checked
    on_ranks(2, _run, faces, tmp_path / "other", {"minutes": 0})
    assert on_ranks(1, _run, faces, tmp_path / "other", {})[0][0] == "done"
    assert '"bitwise": false' in (tmp_path / "other" / "log.jsonl").read_text()


def _signalled(faces, folder, options):
    before = Toy.update

    def update(self, batch, step):
        if step == 3 and distributed.rank() == 1:
            signal.raise_signal(signal.SIGTERM)
        return before(self, batch, step)

    Toy.update = update
    return _run(faces, folder, options)


def test_a_signal_to_one_rank_stops_both_at_the_same_step(tmp_path):
    faces = write_faces(tmp_path / "faces")
    assert on_ranks(2, _signalled, faces, tmp_path / "run", {}) == [("stopped 75", ""), ("stopped 75", "")]
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [4, 8, 10]
    assert on_ranks(2, _run, faces, tmp_path / "run", {}) == on_ranks(2, _run, faces, tmp_path / "whole", {})
