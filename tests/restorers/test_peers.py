"""Networks of spandrel as rows of a table: signed faces in and out, the same twice, and what is refused."""

import pytest
import torch

from codeprior.commands._measuring import asked_methods
from codeprior.restorers import PEERS, SpandrelModel, load_peer, peer_of

spandrel = pytest.importorskip("spandrel")
from spandrel.architectures.GFPGAN import GFPGAN, GFPGANArch  # noqa: E402 - after the question whether it is there

SIZE = 32


def small_gfpgan(seed: int = 0) -> GFPGAN:
    """Gives spandrel's GFP-GAN at a small size, with every tensor off its start, so that noise and shifts count."""
    torch.manual_seed(seed)
    model = GFPGAN(out_size=SIZE, num_style_feat=16, num_mlp=2, narrow=1 / 16, input_is_latent=True, different_w=True)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def _described(model: GFPGAN, purpose: str = "FaceSR"):
    return spandrel.ImageModelDescriptor(
        model, model.state_dict(), architecture=GFPGANArch(), purpose=purpose, tags=[], supports_half=False,
        supports_bfloat16=True, scale=1, input_channels=3, output_channels=3,
        size_requirements=spandrel.SizeRequirements(minimum=SIZE), call_fn=lambda model, image: model(image)[0],
    )  # fmt: skip


def _faces() -> torch.Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_face_goes_through_signed_and_with_the_stored_noise():
    network, faces = small_gfpgan(), _faces()
    peer = SpandrelModel(_described(network))
    assert (peer.size, peer.scale, peer.architecture) == (SIZE, 1, "GFPGAN")
    answer = peer.restore(faces)
    with torch.no_grad():
        assert torch.equal(answer, network(faces, randomize_noise=False)[0])
        assert not torch.allclose(answer, network(faces)[0])
    assert torch.equal(answer, peer.restore(faces)) and not answer.requires_grad
    # the descriptor itself would cut what is below zero, half of a signed picture
    assert float(answer.min()) < 0


def test_other_sizes_and_other_purposes_are_refused():
    peer = SpandrelModel(_described(small_gfpgan()))
    with pytest.raises(ValueError, match="GFPGAN takes 32×32 faces, got 64×64; resize them"):
        peer.restore(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="expected a restorer of faces in colour, got GFPGAN for SR"):
        SpandrelModel(_described(small_gfpgan(), "SR"))


def test_a_command_asks_spandrel_by_its_name(tmp_path, monkeypatch):
    torch.save({"params_ema": small_gfpgan().state_dict()}, tmp_path / "GFPGAN.pth")
    # spandrel builds the published sizes alone; here it builds the small one of the same layout
    monkeypatch.setattr(GFPGANArch, "load", lambda self, state: _loaded(state))
    methods = asked_methods([f"GFP-GAN={PEERS}:{tmp_path / 'GFPGAN.pth'}"], size=SIZE, batch=2)
    (method,) = methods.methods
    unit = (_faces() + 1) / 2
    with torch.no_grad():
        expected = ((small_gfpgan()(_faces(), randomize_noise=False)[0] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(method.restore(unit), expected, rtol=1e-4, atol=1e-5)
    assert (method.name, method.about["recipe"], method.about["weights"]) == ("GFP-GAN", PEERS, "GFPGAN.pth")


def _loaded(state):
    model = small_gfpgan(seed=5)
    model.load_state_dict(state)
    return _described(model.eval())


def test_files_that_spandrel_does_not_know_are_refused_in_words(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="load_peer: spandrel .* makes no model of .*other.pth"):
        load_peer(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError):
        load_peer(tmp_path / "missing.pth")


@pytest.mark.parametrize(
    "error", [IndexError, TypeError, ZeroDivisionError, AssertionError, AttributeError, OverflowError]
)
def test_whatever_odd_tensors_provoke_is_one_kind_of_error(monkeypatch, error):
    def fails(self, state):
        raise error("odd")

    monkeypatch.setattr(GFPGANArch, "load", fails)
    with pytest.raises(ValueError, match="peer_of: spandrel .* makes no model of these tensors: odd"):
        peer_of(small_gfpgan().state_dict())


def test_a_network_far_larger_than_the_tensors_is_refused_before_there_is_memory_for_it(monkeypatch):
    def large(self, state):
        return torch.nn.Linear(10**6, 10**6)  # 4 TB

    monkeypatch.setattr(GFPGANArch, "load", large)
    with pytest.raises(ValueError, match=r"asks for a larger module than the \d+ tensors of the file"):
        peer_of(small_gfpgan().state_dict())


@pytest.mark.slow
def test_a_file_of_the_published_size_is_loaded(tmp_path):
    torch.save({"params_ema": GFPGAN().state_dict()}, tmp_path / "GFPGANv1.4.pth")
    restorer = load_peer(tmp_path / "GFPGANv1.4.pth")
    assert (restorer.size, restorer.scale) == (512, 1)
    assert restorer.model.restore(torch.zeros(1, 3, 512, 512)).shape == (1, 3, 512, 512)
