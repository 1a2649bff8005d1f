"""The VQGAN that learns a prior, and the frozen half that restorers use."""

import pytest
import torch

import codeprior as cp


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
    torch.testing.assert_close(prior.decode(indices), model(image).image)


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


def test_parts_that_do_not_fit_are_refused():
    encoder = cp.VQGANEncoder(8, channels=8, multipliers=(1, 2), blocks=1, groups=4)
    decoder = cp.VQGANDecoder(8, channels=8, multipliers=(1, 2, 2), blocks=1, groups=4)
    with pytest.raises(ValueError, match="code dimensions differ: encoder 8, codebook 6, decoder 8"):
        cp.VQGAN(encoder, cp.Codebook(16, 6), decoder)
    with pytest.raises(ValueError, match="the encoder has stride 2, the decoder 4"):
        cp.VQGAN(encoder, cp.Codebook(16, 8), decoder)
    with pytest.raises(ValueError, match="the codebook has dimension 6, the decoder 8"):
        cp.CodePrior(cp.Codebook(16, 6), decoder)
