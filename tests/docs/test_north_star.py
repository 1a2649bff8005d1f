"""The model of the architecture page trains and restores, as typed there."""

import pytest
import torch

import codeprior as cp
from tests.docs.blocks import ROOT, blocks
from tests.shared import shared_path


def _snippet(text: str) -> str:
    (block,) = [block for block in blocks(text) if "class OldPhotoRestorer" in block.code]
    return block.code


PAGE = (ROOT / "docs" / "concepts" / "new_model.md").read_text()
SNIPPET = _snippet(PAGE)


def test_the_pages_print_the_same_model():
    assert _snippet((ROOT / "README.md").read_text()) == SNIPPET


def test_the_model_is_the_one_of_the_architecture_page():
    assert _snippet(shared_path("ARCHITECTURE.md").read_text()) == SNIPPET


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Gives the snippet's names after it has run on one photograph, with a narrow teacher of fresh weights."""
    monkeypatch.chdir(tmp_path)
    narrow = {"channels": 32, "multipliers": (1, 1, 1, 1, 2, 2), "blocks": 1}
    teacher = cp.VQGAN(cp.VQGANEncoder(256, **narrow), cp.Codebook(1024, 256), cp.VQGANDecoder(256, **narrow))
    cp.save("ffhq-vqgan.safetensors", teacher)
    torch.manual_seed(0)
    namespace = {"__name__": "snippet", "photographs": [torch.rand(1, 3, 512, 512)]}
    exec(compile(SNIPPET, "new_model.md", "exec"), namespace)
    return namespace


def test_the_snippet_trains_and_restores_as_typed(trained):
    model, teacher = trained["model"], trained["teacher"]
    assert torch.isfinite(trained["loss"])
    assert all(parameter.grad is None for parameter in teacher.codebook.parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in model.context.parameters() if parameter.grad is not None)
    seen = []
    model.predict.register_forward_hook(lambda module, given, logits: seen.append((given[0], logits)))
    with torch.no_grad():
        restored = model.eval().restore(torch.zeros(1, 3, 512, 512))
    ((z, logits),) = seen
    assert logits.shape == (1, 16, 16, 1024)
    assert z.shape == (1, 256, 16, 16)
    assert restored.shape == (1, 3, 512, 512)
    # what is restored is what the teacher's own decoder makes of the predicted codes
    with torch.no_grad():  # as `restore` was called: where gradients are recorded, other convolutions run
        expected = teacher.decode(teacher.codebook.lookup(logits.argmax(-1)))
    torch.testing.assert_close(restored, expected)


def test_the_snippet_is_as_short_as_its_title_says():
    assert sum(bool(line.strip()) for line in SNIPPET.splitlines()) == 27


@pytest.fixture
def codeformer(tmp_path, monkeypatch):
    """Gives the names of CodeFormer's snippet after it has restored a face, with a narrow teacher of fresh weights."""
    (block,) = [block for block in blocks(PAGE) if "class CodeFormer" in block.code]
    assert sum(bool(line.strip()) for line in block.code.splitlines()) <= 27
    monkeypatch.chdir(tmp_path)
    narrow = {"channels": 32, "multipliers": (1, 1, 1, 1, 2, 2), "blocks": 2, "activated": False}
    encoder = cp.VQGANEncoder(256, **narrow, code_convolution=False)
    decoder = cp.VQGANDecoder(256, **narrow, code_convolution=False)
    cp.save("vqgan-without-activation.safetensors", cp.VQGAN(encoder, cp.Codebook(1024, 256), decoder))
    namespace = {"__name__": "snippet", "photograph": torch.rand(1, 3, 512, 512)}
    torch.manual_seed(0)
    exec(compile(block.code, "new_model.md", "exec"), namespace)
    return namespace


def test_codeformer_is_written_from_taps_on_encoder_and_decoder(codeformer):
    model = codeformer["restorer"].model
    assert codeformer["restored"].shape == (1, 3, 512, 512)
    image = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        logits, z = model(image)
        alone = model.prior.decode(cp.fusion.adain(model.prior.lookup(logits.argmax(-1)), z))
        torch.testing.assert_close(model.restore(image, fidelity=0.0), alone)
        assert not torch.allclose(model.restore(image, fidelity=1.0), alone, atol=1e-2)
    # losses of the picture reach the transforms and the encoder that they read, never the frozen prior
    model.restore(image).square().mean().backward()
    assert all(parameter.grad is None for parameter in model.prior.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.change.parameters())
