"""What a full-size run needs: no step waits for the GPU, saves go by time, stage 2 goes on with the discriminators."""

import json
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from codeprior import weights
from codeprior.codebooks import Quantized
from codeprior.discriminators import PatchGAN
from codeprior.images import resize
from codeprior.losses import PerceptualLoss
from codeprior.prior import Reconstruction
from codeprior.recipes.daefr import train as command
from codeprior.recipes.daefr.association_stage import AssociationStage
from codeprior.recipes.daefr.model import vqgan
from codeprior.recipes.daefr.settings import (
    MIXED,
    hq_codebook,
    hq_codebook_small,
    restoration,
)
from codeprior.stages import BackwardInputs, Faces, Health, adam
from codeprior.stages import pairs as faces_module
from codeprior.stages.training_command import TrainingCommand, changed, saving
from codeprior.training import Checkpoints, Saving, TorchEngine, loop, step_if_finite, train
from codeprior.training import data as training_data
from tests.fake_gpu import need_fake_gpu
from tests.torture import stages
from tests.training.toy import Toy, stream, write_faces


def _arguments(*words):
    return command.command().parser().parse_args(["hq_codebook", "--faces", "f", "--out", "o", *words])


def test_options_change_the_recipe():
    words = ["--rate", "2e-4", "--warmup", "7", "--decay", "cosine", "--decay-from", "0.5", "--clip", "2"]
    found = changed(
        "hq_codebook", hq_codebook(), _arguments(*words, "--average", "0.99", "--discriminator-from", "0.25")
    )
    expected = replace(
        hq_codebook(), learning_rate=2e-4, warmup=7, decay="cosine", decay_from=0.5, clip=2.0, average=0.99,
        adversarial_from=0.25,
    )  # fmt: skip
    assert found == expected and found.first_adversarial == 175_000
    assert changed("hq_codebook", hq_codebook(), _arguments()) == hq_codebook()
    with pytest.raises(ValueError, match="--discriminator-from says nothing to restoration: its recipe has no"):
        changed("restoration", restoration(), _arguments("--discriminator-from", "0.1"))


def test_full_size_runs_save_by_time_and_in_the_background():
    def found(recipe, *words):
        made = saving(_arguments(*words), full_size=command.command().full_size(recipe))
        return made.every, made.minutes, made.background

    assert found(hq_codebook()) == (0, 15.0, True)
    assert found(hq_codebook_small()) == (500, None, False)
    assert found(hq_codebook(), "--save-every", "100", "--no-background") == (100, None, False)
    assert found(hq_codebook_small(), "--save-minutes", "2", "--background") == (0, 2.0, True)
    assert found(hq_codebook(), "--save-every", "100", "--save-minutes", "2") == (100, 2.0, True)
    # a checkpoint has a score only where its step was validated
    assert found(hq_codebook(), "--validation", "v", "--best", "1", "--validate-every", "70") == (70, 15.0, True)


def test_a_checkpoint_is_written_when_its_minutes_are_over(tmp_path, monkeypatch):
    clock = iter(range(10_000))

    class Clocked(loop.Progress):
        """Every question takes ten seconds."""

        @property
        def elapsed(self):
            return 10.0 * next(clock)

    monkeypatch.setattr(loop, "Progress", Clocked)
    data = stream(write_faces(tmp_path / "faces"))
    options = {"log_every": 100, "preview_every": 0, "progress": False}
    train(Toy(), data, folder=tmp_path / "never", steps=12, saving=Saving(every=0, keep=100), **options)
    assert Checkpoints(tmp_path / "never" / "checkpoints").steps() == [0, 12]
    train(Toy(), data, folder=tmp_path / "often", steps=12, saving=Saving(every=0, minutes=0.5, keep=100), **options)
    steps = Checkpoints(tmp_path / "often" / "checkpoints").steps()
    assert 12 > len(steps) > 4 and (steps[0], steps[-1]) == (0, 12)


def test_the_log_and_the_report_say_what_they_are_told(tmp_path):
    data = stream(write_faces(tmp_path / "faces"))
    train(Toy(), data, folder=tmp_path / "run", steps=2, progress=False, facts={"pictures": "held in memory"})
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["pictures"] for line in lines if line.get("event") == "started"] == ["held in memory"]
    assert "held in memory" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("degradation", ["daefr", MIXED])
def test_damage_is_drawn_without_asking_the_device_for_anything(tmp_path, degradation):
    batch = stages.stream(tmp_path / "faces").at(0)
    expected = Faces(size=32, degradation=degradation, degradation_size=32)(batch)
    on_device = batch.to("meta")
    assert on_device.clean.device.type == "meta"
    assert {field.device.type for field in (on_device.keys, on_device.indices, on_device.flipped)} == {"cpu"}
    # tensors of "meta" hold no values: reading one, as a synchronisation does, is an error
    found = Faces(size=32, degradation=degradation, degradation_size=32, device="meta")(batch)
    assert [image.shape for image in found] == [image.shape for image in expected]


def test_adam_on_a_gpu_is_fused_and_a_step_waits_for_nothing():
    need_fake_gpu()
    with FakeTensorMode():
        net = torch.nn.Linear(3, 2, device="cuda")
        optimizer = adam(net, hq_codebook())
        net.weight.grad, net.bias.grad = torch.ones_like(net.weight), torch.ones_like(net.bias)
        # a fake tensor cannot be read, so that a synchronisation would be an error
        assert step_if_finite(optimizer, clip=1.0).device.type == "cuda"
    assert optimizer.param_groups[0]["fused"] is True
    assert not adam(torch.nn.Linear(3, 2), hq_codebook()).param_groups[0]["fused"]


def test_scalars_of_an_update_lie_where_its_images_do():
    need_fake_gpu()
    with FakeTensorMode():
        net = torch.nn.Linear(3, 2, device="cuda")
        optimizer = adam(net, hq_codebook())
        # without gradients nothing moves, and nothing on the CPU is mixed in
        assert step_if_finite(optimizer).device.type == "cuda"
        net.weight.grad, net.bias.grad = torch.ones_like(net.weight), torch.ones_like(net.bias)
        resting = Health().to("cuda").rests(torch.ones((), device="cuda"), below=0.2)
        assert resting.device.type == step_if_finite(optimizer, unless=resting).device.type == "cuda"
    objective = stages.stage("hq").objective
    image, latent = torch.zeros(1, 3, 8, 8, device="meta"), torch.zeros(1, 4, 2, 2, device="meta")
    uncoded = Quantized(latent, latent, torch.zeros(1, 0, 2, 2, device="meta"))
    asked = BackwardInputs([], [], {}, Reconstruction(image, latent, uncoded))
    assert objective.kept(asked).counts.device.type == "meta"


def test_a_discriminator_rests_without_counting_as_left_out():
    net = torch.nn.Linear(3, 2)
    optimizer, before = adam(net, hq_codebook()), net.weight.detach().clone()
    for value, resting, skipped in ((1.0, True, 0), (float("nan"), True, 0), (float("nan"), False, 1), (1.0, False, 0)):
        net.weight.grad, net.bias.grad = torch.full_like(net.weight, value), torch.full_like(net.bias, value)
        assert step_if_finite(optimizer, unless=torch.tensor(resting)) == skipped
        assert torch.equal(net.weight, before) == (resting or skipped == 1)


@pytest.mark.parametrize("degradation", ["daefr", "clean", MIXED, None])
def test_clean_faces_are_resized_once_a_batch(tmp_path, monkeypatch, degradation):
    made = Faces(size=16, degradation=degradation, degradation_size=32)
    batch, sides = stages.stream(tmp_path / "faces").at(0), []
    clean, degraded = made.clean(batch.clean), made.degraded(batch)
    monkeypatch.setattr(faces_module, "resize", lambda image, side: sides.append(side) or resize(image, side))
    pair = made(batch)
    assert torch.equal(pair.clean, clean) and torch.equal(pair.degraded, degraded)
    # each damage is done at 32 px and then resized to the network's 16
    assert sides.count(16) == 1 + sides.count(32)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_for_a_gpu_lie_in_pinned_memory(tmp_path, monkeypatch, workers):
    pinned, asked = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: pinned.append(tensor.shape) or tensor)
    loader = training_data.DataLoader

    def instead(*given, pin_memory, **more):
        asked.append(pin_memory)
        return loader(*given, **more)

    monkeypatch.setattr(training_data, "DataLoader", instead)
    faces = write_faces(tmp_path / "faces")
    list(stream(faces, workers=workers).between(0, 2))
    assert not pinned and not any(asked)
    batches = list(stream(faces, workers=workers, pinned=True).between(0, 2))
    assert len(batches) == 2 and (asked == [False, True] if workers else len(pinned) == 2 * 4)


def test_the_command_lets_cudnn_choose_by_time_on_a_gpu_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    seen = []
    monkeypatch.setattr(TrainingCommand, "run", lambda *_: seen.append(torch.backends.cudnn.benchmark) or True)
    words = ["hq_codebook", "--faces", "f", "--out", "o"]
    for more in (["--device", "cuda"], ["--device", "cuda", "--deterministic"], ["--device", "cpu"]):
        assert command.main([*words, *more]) == 0
    assert seen == [True, False, False]


@pytest.mark.parametrize("backbone", ["vgg16"])
def test_the_perceptual_distance_in_half_precision_is_that_of_full_precision(backbone):
    torch.manual_seed(0)
    distance = PerceptualLoss(backbone, weights="random")
    image, target = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    found = {}
    for kind in ("float32", "bfloat16"):
        leaf = image.clone().requires_grad_()
        with TorchEngine(precision=kind).autocast():
            value = distance(leaf, target)
        assert value.dtype == torch.float32
        found[kind] = value.item(), torch.autograd.grad(value, leaf)[0]
    # bfloat16 has 8 bits, so each feature is off by up to 0.4 %, and thirteen layers add to that; lengths and
    # differences are float32
    assert found["bfloat16"][0] == pytest.approx(found["float32"][0], rel=0.02)
    assert found["bfloat16"][0] != found["float32"][0]
    mine, theirs = (found[kind][1].flatten() for kind in ("bfloat16", "float32"))
    assert torch.nn.functional.cosine_similarity(mine, theirs, dim=0) > 0.98


@pytest.mark.parametrize(("backbone", "kind"), [("vgg16", torch.bfloat16), ("mobilenet_v2", torch.float32)])
def test_stages_run_vgg_in_the_engines_precision(tmp_path, backbone, kind):
    seen = []

    class Seen(stages.Edges):
        def forward(self, first, second):
            convolved = torch.nn.functional.conv2d(first - second, self.weight, padding=1)
            seen.append(convolved.dtype)
            return convolved.abs().mean()

    stage = stages.stage("hq", engine=TorchEngine(precision="bfloat16"), perceptual=backbone, perceptual_from=0.0)
    stage.objective.perceptual = Seen()
    stage.update(stages.stream(tmp_path / "faces").at(0), 0)
    assert seen == [kind]


def _association(discriminators):
    recipe = stages.recipe("association", discriminator_norm="batch")
    hq, lq = (vqgan(recipe.network) for _ in range(2))
    return AssociationStage(recipe, hq=hq, lq=lq, perceptual=stages.Edges(), discriminators=discriminators)


def test_stage_two_goes_on_with_the_discriminators_and_their_running_statistics(tmp_path):
    found = {}
    for side in ("hq", "lq"):
        stage = stages.stage(side, seed=len(side) + (side == "lq"), discriminator_norm="batch")
        stage.update(stages.stream(tmp_path / "faces").at(0), 20)
        path = tmp_path / f"{side}.safetensors"
        weights.save(path, stage.results["discriminator"])
        found[side] = weights.load(path)
    stage = _association(found)
    for side, objective in stage.objectives.items():
        given, begun = found[side].state_dict(), objective.discriminator.state_dict()
        assert any("running_mean" in name and value.abs().sum() > 0 for name, value in begun.items())
        assert all(torch.equal(value, given[name]) for name, value in begun.items())
    # what is trained next is a copy
    assert stage.hq_objective.discriminator is not found["hq"]
    with pytest.raises(ValueError, match="expected the hq discriminator of stage 1 to be .*'norm': 'batch'.*'none'"):
        _association({"hq": PatchGAN(4, 1, norm="none")})


def test_folders_of_older_versions_lack_discriminators_and_the_command_says_so(tmp_path, capsys):
    weights.save(tmp_path / "discriminator.safetensors", PatchGAN(4, 1))
    (tmp_path / "old").mkdir()
    found = command._discriminators({"hq": tmp_path, "lq": tmp_path / "old"})
    assert found.keys() == {"hq"}
    assert "old/discriminator.safetensors, as in folders of older versions; that discriminator begins anew" in (
        capsys.readouterr().err
    )
