"""Face parsers: weight files of the published layout are read, others refused, and hair stays as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from codeprior.__main__ import main
from codeprior.photos.faces import FaceParser, align, parser, paste, template
from codeprior.photos.faces._bisenet import BiSeNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A stand-in of `parsing_bisenet.pth`: its names and shapes, random values, the heads that only training reads."""
    torch.manual_seed(0)
    network = BiSeNet()
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    state |= {f"module.conv_out{stride}.conv_out.weight": torch.zeros(19, 64, 1, 1) for stride in (16, 32)}
    path = tmp_path_factory.mktemp("parser") / "parsing_bisenet.pth"
    torch.save(state, path)
    return path, network.eval()


def test_a_file_of_the_published_layout_fills_every_weight(weights):
    path, network = weights
    loaded = parser(path).network
    for name, value in network.state_dict().items():
        if "num_batches_tracked" not in name:
            assert torch.equal(loaded.state_dict()[name], value)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        scores = loaded(image)
        assert scores.shape == (1, 19, 64, 96)
        assert torch.equal(scores, network(image))


def test_the_published_names_are_these(weights):
    """The layout as it is recalled; 13.3 million parameters without the heads of training."""
    _, network = weights
    names = network.state_dict()
    assert {
        "cp.resnet.layer2.0.downsample.1.running_var", "cp.arm16.conv.bn.weight", "cp.arm32.conv_atten.weight",
        "cp.arm32.bn_atten.bias", "cp.conv_head16.conv.weight", "cp.conv_avg.conv.weight", "ffm.convblk.conv.weight",
        "ffm.conv1.weight", "conv_out.conv.bn.running_mean", "conv_out.conv_out.weight",
    } <= set(names)  # fmt: skip
    assert 12e6 < sum(value.numel() for value in network.parameters()) < 14e6


def test_other_files_are_refused_by_name(tmp_path, weights):
    path, _ = weights
    with pytest.raises(FileNotFoundError, match="does not exist; give a weight file, because"):
        parser("bisenet")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other weights than BiSeNet's for 19 classes: 1\d\d tensors are missing, 2 "):
        parser(tmp_path / "other.pth")
    state = torch.load(path, weights_only=True)
    state["module.conv_out.conv_out.weight"] = torch.zeros(11, 256, 1, 1)
    torch.save(state, tmp_path / "eleven.pth")
    with pytest.raises(ValueError, match=r"1 have another shape \(conv_out.conv_out.weight\)"):
        parser(tmp_path / "eleven.pth")


class _Halves(nn.Module):
    """Skin on the left, hair on the right."""

    def forward(self, image):
        scores = torch.zeros(1, 19, *image.shape[2:])
        scores[:, 1, :, : image.shape[3] // 2] = 1
        scores[:, 17, :, image.shape[3] // 2 :] = 1
        return scores


def test_hair_stays_and_the_border_is_soft():
    photo = np.full((200, 200, 3), 40, np.uint8)
    crop = align(photo, template(120) + 40, size=128)
    restored = crop._replace(image=torch.ones(3, 128, 128))
    weights = FaceParser(_Halves())(restored.image)
    assert weights[:, :56].min() > 0.99
    assert weights[:, 72:].max() < 0.01
    assert ((weights[:, 56:72].diff(dim=1) <= 1e-6).all()) and (weights[0, 56:72].diff().abs().max() < 0.3)
    pasted = paste(photo, [restored], mask=FaceParser(_Halves()))
    assert (pasted[100, 115:] == 40).all()
    assert (pasted[100, 70:85] == 255).all()


def test_a_parser_that_sees_no_face_is_an_error():
    class Background(nn.Module):
        def forward(self, image):
            return torch.eye(19)[0].view(1, 19, 1, 1).expand(1, 19, *image.shape[2:])

    with pytest.raises(ValueError, match="the parser sees no face"):
        FaceParser(Background())(torch.rand(3, 64, 64))


def test_onnx_networks_are_run(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", kind, (19, 3, 1, 1), np.eye(19, 3, k=-1, dtype=np.float32).ravel())
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, (1, 3, 512, 512))],
        [helper.make_tensor_value_info("y", kind, (1, 19, 512, 512))],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "a.onnx")
    assert parser(tmp_path / "a.onnx")(torch.ones(3, 32, 32)).min() > 0.99
    (tmp_path / "b.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"b\.onnx is no network that onnxruntime can run"):
        parser(tmp_path / "b.onnx")


def test_the_command_takes_a_parser_and_says_where_it_makes_no_sense(tmp_path, capsys):
    assert main(["restore", "a.png", str(tmp_path), "--parser", str(tmp_path / "no.pth")]) == 2
    assert "no.pth does not exist" in capsys.readouterr().err
    assert main(["restore", "a.png", str(tmp_path), "--parser", "x", "--aligned"]) == 2
    assert "--parser is about pasting back, and --aligned pastes nothing" in capsys.readouterr().err
