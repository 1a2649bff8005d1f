"""What makes a step faster or smaller keeps its numbers: layout, forgotten activations, compilation, bfloat16."""

import pytest
import torch

from codeprior.encoders import VQGANEncoder
from codeprior.layers import ResidualBlock
from codeprior.training import TorchEngine, checkpoint_activations
from tests.torture import stages

WHOLE = {"adversarial_start": 0, "crop": None}


def gradients(name, folder, *, engine=None, forget=False, dtype=torch.float64):
    made = stages.stage(name, engine=engine, dtype=dtype, **({} if name == "restoration" else WHOLE))
    if forget:
        for part in made.saved.values():
            if isinstance(part, torch.nn.Module) and any(isinstance(one, ResidualBlock) for one in part.modules()):
                checkpoint_activations(part, ResidualBlock)
    metrics = made.update(stages.stream(folder).at(0), 20)
    found = {
        f"{part}.{key}": parameter.grad.detach().clone()
        for part, module in made.saved.items()
        if isinstance(module, torch.nn.Module)
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return found, metrics


def worst(found, truth):
    assert set(found) == set(truth)
    largest = max(float(value.abs().max()) for value in truth.values())
    return max(float((found[key] - truth[key]).abs().max()) for key in truth) / largest


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options") / "faces"
    stages.stream(folder)
    return folder


@pytest.fixture(scope="module", params=["hq", "association", "restoration"])
def truth(request, faces):
    return request.param, *gradients(request.param, faces)


def test_channels_last_keeps_the_gradients(faces, truth):
    # sums in another order, float64
    assert worst(gradients(truth[0], faces, engine=TorchEngine(channels_last=True))[0], truth[1]) < 1e-12


def test_forgotten_activations_keep_the_gradients(faces, truth):
    # the same operations on the same numbers, twice
    assert worst(gradients(truth[0], faces, forget=True)[0], truth[1]) < 1e-14


def test_forgetting_really_forgets():
    module = VQGANEncoder(4, channels=4, multipliers=(1, 2), blocks=1, attention=(), groups=2)
    image = torch.randn(1, 3, 16, 16, requires_grad=True)

    def kept():
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            module(image)
        return sum(sizes)

    before = kept()
    checkpoint_activations(module, ResidualBlock)
    assert kept() < 0.7 * before


def test_bfloat16_keeps_losses_codes_and_weights_in_full_precision(faces, truth):
    # weights are drawn in float32, so the truth is another than in float64
    truth = truth[0], *gradients(truth[0], faces, dtype=torch.float32)
    engine = TorchEngine(precision="bfloat16")
    found, metrics = gradients(truth[0], faces, engine=engine, dtype=torch.float32)
    assert all(value.dtype in (torch.float32, torch.float64) for value in metrics.values())
    assert all(value.dtype == torch.float32 for value in found.values())
    name = "total" if "total" in truth[2] else "hq_total"
    # eight bits of mantissa through ten layers
    assert float(metrics[name]) == pytest.approx(float(truth[2][name]), rel=0.02)
    flat = [torch.cat([one[key].double().flatten() for key in truth[1]]) for one in (found, truth[1])]
    assert float(torch.cosine_similarity(*flat, dim=0)) > 0.97


@pytest.mark.slow
def test_compilation_keeps_the_gradients(faces, truth):
    # the compiler reorders sums, float64
    assert worst(gradients(truth[0], faces, engine=TorchEngine(compiled=True))[0], truth[1]) < 1e-9
