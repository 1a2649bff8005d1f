"""What CodeFormer, VQFR and RestoreFormer change in the pair of encoder and decoder."""

import pytest
import torch
from torch.nn import functional as F

import codeprior as cp
from codeprior.layers import MIDDLE, BilinearDownsample, BilinearUpsample, Recorder, Tap

SIZES = {"channels": 8, "multipliers": (1, 2, 4), "blocks": 2, "attention": (-1,), "groups": 4}


def test_taps_read_the_middle_before_and_after_its_attention():
    torch.manual_seed(0)
    encoder, decoder = cp.VQGANEncoder(6, **SIZES), cp.VQGANDecoder(6, **SIZES)
    for net, given in ((encoder, torch.rand(1, 3, 16, 16)), (decoder, torch.rand(1, 6, 4, 4))):
        recorder, seen = Recorder([Tap(MIDDLE, 0), Tap(MIDDLE)]), {}
        for index in (0, 2):
            net.middle[index].register_forward_hook(
                lambda _, __, out, index=index, seen=seen: seen.__setitem__(index, out)
            )
        assert torch.equal(net(given, taps=recorder.taps), net(given))
        assert torch.equal(recorder.features[Tap(MIDDLE, 0)], seen[0])
        assert torch.equal(recorder.features[Tap(MIDDLE)], seen[2])
        assert not torch.allclose(net(given, taps={MIDDLE: torch.relu}), net(given))


def test_a_pair_without_a_middle_has_no_place_there():
    encoder = cp.VQGANEncoder(6, **SIZES, middle=False)
    assert not any(name.startswith("middle") for name, _ in encoder.named_parameters())
    with pytest.raises(ValueError, match=r"no feature has stride 0; taps go at strides \[1, 2, 4\]\."):
        encoder(torch.zeros(1, 3, 8, 8), taps={MIDDLE: torch.relu})


@pytest.mark.parametrize("gradients", [True, False])
def test_without_activation_the_ends_are_norm_and_convolution(gradients):
    torch.manual_seed(0)
    with torch.set_grad_enabled(gradients):
        decoder = cp.VQGANDecoder(6, **SIZES, activated=False)
        recorder = Recorder([Tap(1)])
        image = decoder(torch.rand(1, 6, 4, 4), taps=recorder.taps)
        feature = recorder.features[Tap(1)]
        torch.testing.assert_close(image, decoder.conv_out(decoder.norm_out(feature)))
        assert not torch.allclose(image, decoder.conv_out(F.silu(decoder.norm_out(feature))))


def test_a_bilinear_pair_halves_and_doubles_bilinearly():
    torch.manual_seed(0)
    encoder = cp.VQGANEncoder(6, **SIZES, bilinear=True, middle=False)
    decoder = cp.VQGANDecoder(6, **SIZES, bilinear=True, middle=False, widening=False)
    image = torch.rand(1, 3, 16, 24)
    latent = encoder(image)
    assert latent.shape == (1, 6, 4, 6) and decoder(latent).shape == image.shape
    shrinks = [module for module in encoder.modules() if isinstance(module, BilinearDownsample)]
    grows = [module for module in decoder.modules() if isinstance(module, BilinearUpsample)]
    assert len(shrinks) == len(grows) == 2
    # all width changes happen there, so no residual block needs a skip of its own
    assert not any("skip" in name for name, _ in [*encoder.named_parameters(), *decoder.named_parameters()])
    feature = torch.rand(1, 8, 6, 4)
    expected = shrinks[0].conv(F.avg_pool2d(feature, 2))
    torch.testing.assert_close(shrinks[0](feature), expected, rtol=1e-4, atol=1e-5)


def test_code_space_is_reached_with_one_convolution_or_two():
    sizes = {name for name, _ in cp.VQGANEncoder(6, **SIZES, code_convolution=False).named_parameters()}
    assert not any(name.startswith("to_code") for name in sizes)
    decoder = cp.VQGANDecoder(6, **SIZES, widening=False)
    assert tuple(decoder.from_code.weight.shape) == (32, 6, 1, 1)
    with pytest.raises(ValueError, match="nothing leads from code space; set code_convolution or widening"):
        cp.VQGANDecoder(6, **SIZES, widening=False, code_convolution=False)


def test_guides_ask_in_every_attention_of_a_guided_decoder():
    torch.manual_seed(0)
    decoder = cp.VQGANDecoder(6, **(SIZES | {"attention": (-1, -2)}), guided=True, heads=2)
    assert decoder.guided == [MIDDLE, 2, 4]
    values = torch.rand(1, 6, 4, 4)
    guides = {MIDDLE: torch.randn(1, 32, 4, 4), 4: torch.randn(1, 32, 4, 4), 2: torch.randn(1, 16, 8, 8)}
    image = decoder(values, guides=guides)
    for place, guide in guides.items():
        assert not torch.allclose(decoder(values, guides=guides | {place: guide.flip(-1)}), image)


def test_missing_and_surplus_guides_are_named():
    values = torch.rand(1, 6, 4, 4)
    guided, plain = cp.VQGANDecoder(6, **SIZES, guided=True), cp.VQGANDecoder(6, **SIZES)
    with pytest.raises(ValueError, match=r"VQGANDecoder: expected guides at \[0, 4\], got \[4\]; 0 is the middle"):
        guided(values, guides={4: torch.zeros(1, 32, 4, 4)})
    with pytest.raises(ValueError, match=r"VQGANDecoder: expected guides at no stride, got \[4\]"):
        plain(values, guides={4: torch.zeros(1, 32, 4, 4)})
