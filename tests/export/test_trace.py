"""Every family becomes a graph of PyTorch's own operators, which gives the same pictures and the same codes."""

import pytest
import torch

from codeprior.export import Program, trace
from codeprior.export.parity import compare, pictures
from codeprior.kernels import lookup
from codeprior.kernels._choose import choose
from codeprior.prior import VQGAN
from codeprior.recipes.gpen import GPEN
from codeprior.restorers.models import takes_fidelity
from tests import small_families
from tests.export.models import MODELS, single


def _program(model) -> Program:
    return Program(model, fidelity=takes_fidelity(model)).eval()


def _runner(traced):
    module = traced.module()
    return lambda image, fidelity: module(image) if fidelity is None else module(image, fidelity)


def _holds(program: Program, *, size: int = 16):
    traced = trace(program, size=size)
    parity = compare(program, _runner(traced), size=size)
    assert parity.holds, parity
    found = traced.module()(*_inputs(program, size))
    assert parity.codes == sum(4 * indices.numel() for indices in found[1:])
    assert {op.namespace for op in _operators(traced)} <= {"aten"}


def _inputs(program: Program, size: int):
    return (pictures(size)[:1], torch.tensor([0.5]))[: 1 + program.takes_fidelity]


def _operators(traced):
    return [n.target for n in traced.graph.nodes if isinstance(n.target, torch._ops.OpOverload)]


def test_a_small_model_is_traced_for_any_batch():
    _holds(_program(single()))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_small_model_is_traced_by_torchscript_as_well():
    program = _program(single())
    with torch.no_grad():
        traced = torch.jit.trace(program, _inputs(program, 16), check_trace=False)
        other = pictures(16)[1:2]
        found, truth = traced(other), program(other)
    assert {node.kind().split("::")[0] for node in traced.inlined_graph.nodes()} <= {"aten", "prim"}
    assert torch.equal(found[1], truth[1])
    torch.testing.assert_close(found[0], truth[0], rtol=1e-4, atol=1e-5)


def test_seeded_noise_is_a_constant_of_the_graph():
    torch.manual_seed(0)
    model = GPEN(8, scale=2, dim=8, layers=2, multiplier=1, narrow=1 / 64).requires_grad_(False)
    torch.nn.init.constant_(model.synthesis.convs[-1].noise_weight, 0.5)
    program = Program(model, options={"seed": 3}).eval()
    _holds(program, size=8)
    found = trace(program, size=8).module()(pictures(8))[0]
    torch.testing.assert_close(found, model.restore(pictures(8), seed=3), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, model.restore(pictures(8)), atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_family_is_traced_for_any_batch(name):
    _holds(_program(MODELS[name]()))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "vqfr_v1"])
def test_a_program_gives_what_the_model_restores(name):
    model = MODELS[name]()
    image = pictures(16)
    fidelity = torch.tensor([0.0, 0.5, 1.0])
    given = {"fidelity": fidelity} if takes_fidelity(model) else {}
    found = _program(model)(image, *given.values())
    assert torch.equal(found[0], model.restore(image, **given))
    # each face as its own number says
    for at in range(3):
        alone = model.restore(image[at : at + 1], **({"fidelity": float(fidelity[at])} if given else {}))
        assert torch.allclose(found[0][at : at + 1], alone, atol=1e-5)


def test_the_codes_of_a_program_are_those_that_the_decoder_shows():
    model = small_families.codeformer()
    _, indices = _program(model)(pictures(16), torch.zeros(3))
    assert torch.equal(indices, model(pictures(16)).logits.argmax(-1))
    nearest = small_families.restoreformer()
    _, indices = _program(nearest)(pictures(16))
    assert torch.equal(indices, nearest(pictures(16)).quantized.indices)


def test_a_program_leaves_the_model_as_it_was():
    model = small_families.restoreformer()
    _program(model)(pictures(16))
    assert not any(module._forward_hooks for module in model.modules())
    assert "lookup" not in model.codebook.__dict__


def test_an_auto_encoder_gives_its_image_back():
    model = small_families.dictionary()
    assert isinstance(model, VQGAN)
    restored, indices = Program(model)(pictures(16))
    truth = model(pictures(16))
    assert torch.equal(restored, truth.image) and torch.equal(indices, truth.quantized.indices)


def test_what_only_this_library_has_is_named():
    class Own(torch.nn.Module):
        def restore(self, image):
            return torch.ops.codeprior.nearest_code.default(image.flatten(2), image[0, :, 0], "reference", True)

    with pytest.raises(ValueError, match=r"trace: Own uses codeprior\.nearest_code, which runtimes do not have"):
        trace(Program(Own()), size=4)


class _Lookup(torch.nn.Module):
    def forward(self, latent, codebook):
        found = lookup(latent, codebook)
        return found.indices, found.codes, found.distances, found.counts


def test_the_exported_lookup_gives_the_nearest_code_and_the_lowest_on_ties():
    latent, codebook = torch.randn(2, 8, 5, 5), torch.randn(40, 8)
    codebook[7] = codebook[3]
    latent[0, :, 0, 0] = codebook[7]
    # far from zero, where products lose the digits that tell the codes apart
    for shift in (0.0, 300.0):
        given = latent + shift, codebook + shift
        exported = torch.export.export(_Lookup(), given)
        assert not [op for op in _operators(exported) if op.namespace == "codeprior"]
        found, truth = exported.module()(*given), lookup(*given)
        assert torch.equal(found[0], truth.indices) and found[0][0, 0, 0] == 3
        assert torch.equal(found[1], truth.codes) and torch.equal(found[3], truth.counts)
        assert torch.allclose(found[2], truth.distances, rtol=1e-5)


def test_a_file_is_compared_with_the_plain_implementations():
    class Rounded(torch.nn.Module):
        def restore(self, image):
            # one of the two is exact, as an answer of a fast implementation beside the plain one
            return image + 1e-3 * (choose("convolution", None, "cpu") != "reference")

    program = Program(Rounded())
    parity = compare(program, lambda image, _: (image,), size=16)
    assert parity.image == 0 and parity.holds


def test_a_difference_is_measured_over_the_range_of_pixels_whatever_the_pictures_span():
    class Far(torch.nn.Module):
        def restore(self, image):
            return 100 * image

    program = Program(Far())
    parity = compare(program, lambda image, _: (program(image)[0] + 1e-3,), size=16)
    assert parity.image == pytest.approx(1e-3 / 2, rel=1e-2) and not parity.holds
