"""The VQGAN that learns a prior, and the frozen half that restorers use."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import codeprior as cp
from codeprior.codebooks import CosineCodebook, LookupFreeCodebook, Quantizer, ResidualCodebook
from codeprior.decoders import Decoder
from codeprior.encoders import Encoder
from codeprior.images import to_array

SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "groups": 4}


def _vqgan(book=None):
    return cp.VQGAN(
        cp.VQGANEncoder(8, channels=8, multipliers=(1, 2), blocks=1, groups=4),
        book or cp.Codebook(16, 8),
        cp.VQGANDecoder(8, channels=8, multipliers=(1, 2), blocks=1, groups=4),
    )


def test_forward_is_encode_then_decode():
    model, image = _vqgan(), torch.rand(2, 3, 8, 12) * 2 - 1
    result = model(image)
    quantized = model.encode(image)
    assert torch.equal(result.quantized.indices, quantized.indices) and quantized.indices.shape == (2, 4, 6)
    assert torch.equal(result.image, model.decode(quantized.values))


def test_gradients_pass_straight_through_to_the_encoder():
    model = _vqgan()
    model(torch.rand(1, 3, 8, 8)).image.sum().backward()
    assert model.encoder.conv_in.weight.grad.abs().sum() > 0


def test_a_prior_decodes_the_codes_that_its_teacher_chose():
    model, image = _vqgan(), torch.rand(1, 3, 8, 8) * 2 - 1
    prior = model.prior()
    indices = model.encode(image).indices
    assert (prior.dim, prior.size, prior.stride) == (8, 16, 2)
    torch.testing.assert_close(prior.decode_indices(indices), model(image).image)


@pytest.mark.parametrize("book", [None, cp.MovingAverageCodebook(16, 8)])
def test_a_prior_does_not_learn(book):
    prior = _vqgan(book).prior().train()
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    values = torch.randn(1, 8, 4, 4, requires_grad=True)
    prior.decoder(values).sum().backward()
    prior.quantize(torch.randn(2, 8, 4, 4))
    assert values.grad is not None and values.grad.abs().sum() > 0
    assert not prior.training and all(p.grad is None for p in prior.parameters())
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())


def test_a_restorer_may_go_on_training_the_decoder_of_a_prior():
    prior = _vqgan(cp.MovingAverageCodebook(16, 8)).prior(frozen="codebook").train()
    before = prior.codebook.weight.clone()
    latent = torch.randn(1, 8, 4, 4, requires_grad=True)
    quantized = prior.quantize(latent)
    prior.decode(quantized.values).sum().backward()
    assert all(p.grad is not None for p in prior.decoder.parameters())
    assert latent.grad is not None and latent.grad.abs().sum() > 0  # straight through the codes
    assert prior.training and prior.decoder.training and not prior.codebook.training
    assert torch.equal(prior.codebook.weight, before)
    assert not prior.eval().training and not prior.decoder.training


def test_a_prior_may_learn_whole_and_its_weights_say_what_is_frozen(tmp_path):
    prior = _vqgan().prior(frozen=False).train()
    prior.decode(prior.quantize(torch.randn(1, 8, 4, 4)).codes).sum().backward()
    assert all(p.grad is not None for p in prior.parameters())
    cp.save(tmp_path / "p.safetensors", prior)
    assert cp.load(tmp_path / "p.safetensors").frozen is False
    with pytest.raises(ValueError, match="frozen must be True, False or 'codebook', got 'decoder'"):
        _vqgan().prior(frozen="decoder")


def test_the_parts_of_a_prior_are_what_the_protocols_ask():
    model = _vqgan()
    assert isinstance(model.encoder, Encoder)
    assert isinstance(model.decoder, Decoder)
    kinds = (cp.Codebook, cp.MovingAverageCodebook, CosineCodebook)
    books = [kind(16, 8) for kind in kinds] + [ResidualCodebook(cp.Codebook(16, 8), stages=2), LookupFreeCodebook(8)]
    for book in books:
        assert isinstance(book, Quantizer)
    assert not isinstance(torch.nn.Identity(), Quantizer)


def test_parts_that_do_not_fit_are_refused():
    encoder = cp.VQGANEncoder(8, channels=8, multipliers=(1, 2), blocks=1, groups=4)
    decoder = cp.VQGANDecoder(8, channels=8, multipliers=(1, 2, 2), blocks=1, groups=4)
    with pytest.raises(ValueError, match="code dimensions differ: encoder 8, codebook 6, decoder 8"):
        cp.VQGAN(encoder, cp.Codebook(16, 6), decoder)
    with pytest.raises(ValueError, match="the encoder has stride 2, the decoder 4"):
        cp.VQGAN(encoder, cp.Codebook(16, 8), decoder)
    with pytest.raises(ValueError, match="the codebook has dimension 6, the decoder 8"):
        cp.CodePrior(cp.Codebook(16, 6), decoder)


def test_the_expectation_of_certain_codes_is_their_row_and_of_even_ones_the_mean():
    prior = cp.CodePrior(cp.Codebook(5, 4), cp.VQGANDecoder(4, **SMALL))
    indices = torch.randint(0, 5, (2, 3, 3))
    certain = torch.nn.functional.one_hot(indices, 5) * 1e4
    torch.testing.assert_close(prior.expected(certain.float()), prior.lookup(indices))
    even = prior.expected(torch.zeros(1, 2, 2, 5))
    torch.testing.assert_close(even[0, :, 0, 0], prior.codebook.weight.mean(0))


def test_expectations_of_residual_tables_are_summed():
    codebook = ResidualCodebook(cp.Codebook(5, 4), stages=3)
    prior = cp.CodePrior(codebook, cp.VQGANDecoder(4, **SMALL))
    indices = torch.randint(0, 5, (2, 3, 2, 2))
    certain = torch.nn.functional.one_hot(indices, 5).float() * 1e4
    torch.testing.assert_close(prior.expected(certain), prior.lookup(indices))
    assert prior.decode_indices(indices).shape[:2] == (2, 3)


def test_indices_given_to_decode_are_decoded_with_a_warning():
    prior = cp.CodePrior(cp.Codebook(5, 4), cp.VQGANDecoder(4, **SMALL))
    indices = torch.randint(0, 5, (1, 2, 2))
    with pytest.warns(DeprecationWarning, match="decode_indices takes indices"):
        image = prior.decode(indices)
    assert torch.equal(image, prior.decode_indices(indices)) and torch.equal(image, prior.decode(prior.lookup(indices)))


def test_without_codes_the_decoder_gets_the_latent():
    model = cp.VQGAN(cp.VQGANEncoder(4, **SMALL), cp.Codebook(5, 4), cp.VQGANDecoder(4, **SMALL))
    image = torch.rand(2, 3, 8, 8)
    found = model(image, coded=False)
    assert torch.equal(found.image, model.decode(model.encoder(image)))
    assert found.quantized.indices.shape[:2] == (2, 0) and not found.quantized.codes.requires_grad


def test_what_a_model_gives_is_printed_in_a_line_and_shown_as_a_picture():
    made = _vqgan()(torch.rand(2, 3, 8, 12) * 2 - 1)
    assert repr(made.quantized) == "Quantized(values 2×8×4×6 float32, codes 2×8×4×6 float32, indices 2×4×6 int64)"
    assert repr(made) == f"Reconstruction(image 2×3×8×12 float32, latent 2×8×4×6 float32, {made.quantized!r})"
    with Image.open(io.BytesIO(made._repr_png_())) as shown:
        assert shown.size == (24, 8)
        assert np.array_equal(np.asarray(shown)[:, :12], to_array(cp.to_unit(made.image.detach())[0]))


def test_a_prior_says_how_many_codes_stand_at_a_place():
    decoder = cp.VQGANDecoder(4, channels=4, multipliers=(1,), blocks=1, attention=(), groups=2)
    assert cp.CodePrior(cp.Codebook(5, 4), decoder).tables == 1
    assert cp.CodePrior(ResidualCodebook(cp.Codebook(5, 4), stages=3), decoder).tables == 3
