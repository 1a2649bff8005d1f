"""vector-quantize-pytorch from both sides: its quantizers as codebooks, and our lookup inside them."""

import copy
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from einops import rearrange

from codeprior.codebooks import VQPCodebook, accelerate

vqp = pytest.importorskip("vector_quantize_pytorch")

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "nearest_code.md"
# modules of the package that are parts of quantizers
PARTS = {"Codebook", "CosineSimLinear", "MLP", "Sequential", "VectorNorm"}
MAKE = {
    "VectorQuantize": lambda: vqp.VectorQuantize(dim=8, codebook_size=32),
    "ResidualVQ": lambda: vqp.ResidualVQ(dim=8, codebook_size=32, num_quantizers=2),
    "GroupedResidualVQ": lambda: vqp.GroupedResidualVQ(dim=8, codebook_size=32, num_quantizers=2, groups=2),
    "SimVQ": lambda: vqp.SimVQ(dim=8, codebook_size=32),
    "ResidualSimVQ": lambda: vqp.ResidualSimVQ(dim=8, codebook_size=32, num_quantizers=2),
    "RandomProjectionQuantizer": lambda: vqp.RandomProjectionQuantizer(
        dim=8, codebook_size=32, codebook_dim=4, num_codebooks=2
    ),
    "HierarchicalVQ": lambda: vqp.HierarchicalVQ(dim=8, codebook_size=32, scales=(1, 2)),
    "FSQ": lambda: vqp.FSQ(levels=[4, 4, 4]),
    "ResidualFSQ": lambda: vqp.ResidualFSQ(dim=8, levels=[4, 4, 4], num_quantizers=2),
    "GroupedResidualFSQ": lambda: vqp.GroupedResidualFSQ(dim=8, levels=[4, 4, 4], num_quantizers=2, groups=2),
    "LFQ": lambda: vqp.LFQ(dim=4, codebook_size=16),
    "ResidualLFQ": lambda: vqp.ResidualLFQ(dim=4, codebook_size=16, num_quantizers=2),
    "GroupedResidualLFQ": lambda: vqp.GroupedResidualLFQ(dim=8, codebook_size=16, num_quantizers=2, groups=2),
    "FSP": lambda: vqp.FSP(levels=[4, 4]),
    "EvoLFQ": lambda: vqp.EvoLFQ(torch.nn.Linear(8, 4), torch.nn.Linear(4, 8), dim=4, codebook_size=16),
    "LatentQuantize": lambda: vqp.LatentQuantize(levels=[4, 4], dim=8),
    "BinaryMapper": lambda: vqp.BinaryMapper(bits=4),
}


def named_in_the_guide() -> dict[str, bool]:
    """Quantizers of the guide's table, and whether it says that they are accelerated."""
    section = GUIDE.read_text().split("## vector-quantize-pytorch")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return {name: answer.strip().startswith("yes") for names, answer in rows for name in re.findall(r"`(\w+)`", names)}


def test_the_guide_names_every_quantizer_of_the_installed_package():
    found = set()
    for info in pkgutil.iter_modules(vqp.__path__):
        module = importlib.import_module(f"{vqp.__name__}.{info.name}")
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and issubclass(kind, torch.nn.Module) and kind.__module__ == module.__name__:
                found |= {name} if not name.startswith("_") else set()
    assert found - PARTS <= set(named_in_the_guide()), "say in the guide whether accelerate() covers it"


@pytest.mark.parametrize("name", MAKE)
def test_what_the_guide_says_of_a_quantizer_is_so(name):
    accelerated = named_in_the_guide()[name]
    quantizer = MAKE[name]()
    if not accelerated:
        with pytest.raises(ValueError, match="found no VectorQuantize and no SimVQ"):
            accelerate(quantizer)
        return
    accelerate(quantizer)
    kinds = {type(part).__qualname__ for part in quantizer.modules()}
    assert any(kind.split(".")[-1].startswith("Accelerated") for kind in kinds)


def test_every_quantizer_of_the_guide_is_tried():
    assert set(named_in_the_guide()) == set(MAKE)


def quantizers():
    return {
        "moving averages": lambda: vqp.VectorQuantize(dim=8, codebook_size=32, threshold_ema_dead_code=2),
        "cosine": lambda: vqp.VectorQuantize(dim=8, codebook_size=32, use_cosine_sim=True),
        "learnable": lambda: vqp.VectorQuantize(dim=8, codebook_size=32, learnable_codebook=True, ema_update=False),
        "heads": lambda: vqp.VectorQuantize(dim=8, codebook_size=32, heads=2, separate_codebook_per_head=True),
        "k-means": lambda: vqp.VectorQuantize(dim=8, codebook_size=32, kmeans_init=True, kmeans_iters=3),
        "residual": lambda: vqp.ResidualVQ(dim=8, codebook_size=32, num_quantizers=3),
    }


@pytest.mark.parametrize("name", quantizers())
def test_an_accelerated_quantizer_behaves_as_before(name):
    torch.manual_seed(1)
    original = quantizers()[name]()
    ours = accelerate(copy.deepcopy(original))
    assert list(ours.state_dict()) == list(original.state_dict())
    for step in range(6):
        original.train(step < 5), ours.train(step < 5)
        latent = torch.randn(3, 20, 8)
        results = []
        for module in (original, ours):
            torch.manual_seed(step)
            x = latent.clone().requires_grad_()
            values, indices, loss = module(x)
            if step < 5:
                (values.square().sum() + loss.sum()).backward()
            results.append((values, indices, loss, x.grad))
        for theirs, mine in zip(*results, strict=True):
            if theirs is not None:
                # the averages' sums are taken in another order
                assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    for key, value in original.state_dict().items():
        assert torch.allclose(ours.state_dict()[key].float(), value.float(), rtol=1e-4, atol=1e-5), key
    for theirs, mine in zip(original.parameters(), ours.parameters(), strict=True):
        assert (theirs.grad is None) == (mine.grad is None)
        if theirs.grad is not None:
            assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_calls_with_a_mask_take_the_originals_way():
    original = vqp.VectorQuantize(dim=8, codebook_size=32)
    ours = accelerate(copy.deepcopy(original))
    latent, mask = torch.randn(2, 10, 8), torch.rand(2, 10) > 0.5
    for module in (original, ours):
        torch.manual_seed(0)
        module(latent, mask=mask)
    for name, value in original.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


@pytest.mark.parametrize("options", [{}, {"rotation_trick": False}, {"channel_first": True}])
def test_an_accelerated_simvq_gives_what_the_original_gives(options):
    original = vqp.SimVQ(dim=8, codebook_size=32, **options)
    ours = accelerate(copy.deepcopy(original))
    found = []
    for module in (original, ours):
        latent = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(0))
        latent = latent if options.get("channel_first") else rearrange(latent, "b d h w -> b h w d")
        latent.requires_grad_()
        values, indices, loss = module(latent)
        slope = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad((values * slope).sum() + loss, (latent, module.code_transform.weight))
        found.append((values, indices, loss, *gradients))
    for theirs, mine in zip(*found, strict=True):
        assert theirs.shape == mine.shape
        # the rotation's products in another order
        assert torch.allclose(theirs, mine, rtol=1e-5, atol=1e-6)


def test_quantizers_made_of_simvq_are_accelerated():
    module = accelerate(vqp.ResidualSimVQ(dim=8, codebook_size=32, num_quantizers=2))
    assert all("Accelerated" in type(layer).__qualname__ for layer in module.layers)
    # once more changes nothing
    assert accelerate(module) is module


def test_what_needs_every_distance_is_refused():
    with pytest.raises(ValueError, match="stochastic_sample_codes, which needs every distance"):
        accelerate(vqp.VectorQuantize(dim=8, codebook_size=32, stochastic_sample_codes=True))
    with pytest.raises(ValueError, match="found no VectorQuantize and no SimVQ in Linear"):
        accelerate(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: vqp.VectorQuantize(dim=8, codebook_size=32),
        lambda: vqp.ResidualVQ(dim=8, codebook_size=32, num_quantizers=3),
        lambda: vqp.SimVQ(dim=8, codebook_size=32),
        lambda: vqp.FSQ(levels=[4, 4, 4], dim=8),
        lambda: vqp.LFQ(dim=8, codebook_size=16),
    ],
    ids=["VectorQuantize", "ResidualVQ", "SimVQ", "FSQ", "LFQ"],
)
def test_any_quantizer_serves_as_a_codebook(make):
    quantizer = make()
    codebook = VQPCodebook(quantizer, dim=8)
    latent = torch.randn(2, 8, 3, 4, requires_grad=True)
    codebook.eval()
    found = codebook(latent)
    rows, *_ = quantizer(rearrange(latent, "b d h w -> b (h w) d"))
    assert torch.equal(found.values, rearrange(rows, "b (h w) d -> b d h w", h=3))
    assert found.indices.shape[-2:] == (3, 4)
    assert torch.allclose(codebook.lookup(found.indices), found.values, atol=1e-5)
    codebook.train()
    codebook(latent).values.square().sum().backward()
    assert latent.grad.abs().sum() > 0


def test_a_quantizer_that_does_not_tell_its_size_must_be_told():
    with pytest.raises(TypeError, match="Identity does not tell its size; give size="):
        VQPCodebook(torch.nn.Identity())


LOOKED_UP = {
    "VectorQuantize": (lambda: VQPCodebook(vqp.VectorQuantize(dim=8, codebook_size=32)), ()),
    "FSQ": (lambda: VQPCodebook(vqp.FSQ(levels=[8, 4], dim=8)), ()),
    "ResidualVQ": (
        lambda: VQPCodebook(vqp.ResidualVQ(dim=8, codebook_size=32, num_quantizers=2), dim=8, size=32),
        (2,),
    ),
}


@pytest.mark.parametrize("name", LOOKED_UP)
def test_indices_of_no_code_are_refused_as_by_our_codebooks(name):
    make, several = LOOKED_UP[name]
    book = make().eval()
    good = torch.zeros(1, *several, 2, 3, dtype=torch.int64)
    assert book.lookup(good + 31).shape == (1, 8, 2, 3)
    for wrong, said in ((good + 32, "got 32 to 32"), (good - 2, "got -2 to -2")):
        with pytest.raises(ValueError, match=f"lookup: expected indices from 0 to 31, {said}"):
            book.lookup(wrong)
    for wrong, kind in ((good.float(), "torch.float32"), (good.numpy(), "ndarray")):
        with pytest.raises(TypeError, match=f"lookup: expected indices b h w of int64 or int32, got {kind}"):
            book.lookup(wrong)
    with pytest.raises(ValueError, match=r"lookup: expected indices b h w, got \(2, 3\)"):
        book.lookup(torch.zeros(2, 3, dtype=torch.int64))


def test_a_stage_that_was_left_out_adds_nothing():
    book = VQPCodebook(MAKE["ResidualVQ"](), dim=8, size=32).eval()
    indices = torch.randint(0, 32, (1, 2, 2, 3))
    dropped = indices.clone()
    dropped[:, 1] = -1
    table = book.quantizer.codebooks[0]
    assert torch.equal(book.lookup(dropped), rearrange(table[indices[:, 0]], "b h w d -> b d h w"))
