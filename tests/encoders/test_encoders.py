"""What every encoder promises, and what each adds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import codeprior as cp
from codeprior.encoders import Encoder
from codeprior.layers import AttentionBlock


def _vqgan():
    return cp.VQGANEncoder(12, channels=8, multipliers=(1, 1, 2), blocks=1, groups=4)


def _timm():
    return cp.TimmEncoder("resnet10t", 12, stride=4)


@pytest.mark.parametrize("make", [_vqgan, _timm])
class TestEveryEncoder:
    def test_ends_in_code_space(self, make):
        encoder = make().eval()
        assert isinstance(encoder, Encoder) and (encoder.dim, encoder.stride) == (12, 4)
        assert encoder(torch.rand(2, 3, 24, 16) * 2 - 1).shape == (2, 12, 6, 4)

    def test_does_not_mix_the_images_of_a_batch(self, make):
        encoder = make().double().eval()
        images = torch.rand(3, 3, 16, 16, dtype=torch.float64) * 2 - 1
        # float64: a batch may be summed in another order, nothing more
        torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]), rtol=1e-9, atol=1e-9)

    def test_refuses_sides_between_two_strides(self, make):
        with pytest.raises(ValueError, match="expected sides that are multiples of 4, got 18×16; resize or pad"):
            make()(torch.zeros(1, 3, 18, 16))

    def test_is_rebuilt_from_its_config(self, make):
        encoder = make().eval()
        again = cp.layers.build(encoder.config).eval()
        again.load_state_dict(encoder.state_dict(), strict=True)
        image = torch.rand(1, 3, 16, 16) * 2 - 1
        assert torch.equal(again(image), encoder(image))


def test_the_defaults_are_the_published_encoder():
    with torch.device("meta"):
        encoder = cp.VQGANEncoder()
    # 29,419,072 parameters and the 1×1 convolution (65,792), less 3 normalisations that the reference never uses
    assert sum(p.numel() for p in encoder.parameters()) == 29_419_072 + 65_792 - 3 * 2 * 512
    assert encoder.stride == 32


@settings(max_examples=10)
@given(st.integers(1, 4), st.integers(1, 4))
def test_any_grid_runs(rows, columns):
    assert _vqgan()(torch.zeros(1, 3, 4 * rows, 4 * columns)).shape == (1, 12, rows, columns)


def test_attention_goes_where_it_is_asked_for():
    encoder = cp.VQGANEncoder(8, channels=8, multipliers=(1, 1, 2), blocks=2, attention=(0, -1), groups=4)
    found = [sum(isinstance(step, AttentionBlock) for step in level.steps) for level in encoder.levels]
    assert found == [2, 0, 2]
    with pytest.raises(ValueError, match="VQGANEncoder: attention at level 3, but there are 3 levels"):
        cp.VQGANEncoder(8, channels=8, multipliers=(1, 1, 2), attention=(3,), groups=4)


def test_a_timm_encoder_normalises_as_its_backbone_was_trained():
    encoder = cp.TimmEncoder("resnet10t", 4, stride=4).eval()
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(torch.full((1, 3, 8, 8), 1.0))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], (1 - mean) / deviation)


def test_channels_last_backbones_come_out_as_latents():
    encoder = cp.TimmEncoder("swin_tiny_patch4_window7_224", 4, stride=32, image_size=64).eval()
    assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 4, 2, 2)


def test_timm_errors_name_what_there_is():
    with pytest.raises(ValueError, match="has no model 'resnet10x'; near it: .*resnet"):
        cp.TimmEncoder("resnet10x")
    with pytest.raises(ValueError, match=r"resnet10t gives features at strides \[2, 4, 8, 16, 32\], not 64"):
        cp.TimmEncoder("resnet10t", stride=64)
