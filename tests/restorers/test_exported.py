"""ONNX files of somebody who means harm: what they take, give and say is checked, and their work ends."""

import numpy as np
import pytest
import torch

from codeprior.restorers import OnnxModel, exported

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
_helper, _kinds = onnx.helper, onnx.TensorProto
_FACES = torch.zeros(1, 3, 4, 4)
_SAID = {"codeprior.size": "4", "codeprior.scale": "1", "codeprior.stride": "1"}
_COPY = [_helper.make_node("Identity", ["image"], ["restored"])]


def _value(name: str, kind: int = _kinds.FLOAT, shape: list | None = None):
    return _helper.make_tensor_value_info(name, kind, shape)


def _constant(name: str, value) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(value), name)


_IMAGE, _FACE = _value("image", shape=["b", 3, 4, 4]), _value("restored")


def _file(tmp_path, nodes=_COPY, *, takes=(_IMAGE,), gives=(_FACE,), said=(), constants=()):
    graph = _helper.make_graph(list(nodes), "g", list(takes), list(gives), initializer=list(constants))
    made = _helper.make_model(graph, opset_imports=[_helper.make_opsetid("", 20)], ir_version=10)
    for name, text in (_SAID | dict(said)).items():
        entry = made.metadata_props.add()
        entry.key, entry.value = name, text
    onnx.save(made, tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


def test_a_whole_file_runs(tmp_path):
    model = OnnxModel(_file(tmp_path))
    assert torch.equal(model.restore(_FACES + 0.5), _FACES + 0.5) and (model.size, model.scale) == (4, 1)


@pytest.mark.parametrize(
    ("takes", "text"),
    [
        ((), "takes nothing; expected image, b 3 4 4"),
        ((_value("image", _kinds.STRING, ["b", 3, 4, 4]),), "takes image tensor.string"),
        ((_value("image", shape=["b", 3, 8, 8]),), r"takes image tensor.float. \['b', 3, 8, 8\]; expected"),
        ((_value("image", shape=[3]),), "expected image, b 3 4 4"),
        ((_IMAGE, _value("more", shape=[1])), "takes .*more tensor.float"),
        ((_value("fidelity", shape=["b"]), _IMAGE), "takes fidelity"),
    ],
)
def test_other_inputs_than_those_of_an_export_are_refused(tmp_path, takes, text):
    nodes = _COPY if takes else [_helper.make_node("Identity", ["c"], ["restored"])]
    if takes and takes[0].type.tensor_type.elem_type == _kinds.STRING:
        nodes = [_helper.make_node("Cast", ["image"], ["restored"], to=_kinds.FLOAT)]
    path = _file(tmp_path, nodes, takes=takes, constants=[] if takes else [_constant("c", _FACES.numpy())])
    with pytest.raises(ValueError, match=text):
        OnnxModel(path)


@pytest.mark.parametrize("kind", [_kinds.STRING, _kinds.UINT64, "sequence"])
def test_other_answers_than_faces_are_refused(tmp_path, kind):
    if kind == "sequence":
        nodes = [_helper.make_node("SequenceConstruct", ["image"], ["restored"])]
        gives = _helper.make_tensor_sequence_value_info("restored", _kinds.FLOAT, None)
    else:
        nodes, gives = [_helper.make_node("Cast", ["image"], ["restored"], to=kind)], _value("restored", kind)
    with pytest.raises(ValueError, match="expected faces, and at most their codes"):
        OnnxModel(_file(tmp_path, nodes, gives=(gives,)))


def test_faces_of_another_shape_than_was_said_are_refused(tmp_path):
    path = _file(tmp_path, [_helper.make_node("ReduceSum", ["image"], ["restored"], keepdims=0)])
    with pytest.raises(ValueError, match=r"gives faces \(\), and says that they are \(1, 3, 4, 4\)"):
        OnnxModel(path).restore(_FACES)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        # only the first nine digits were looked at
        ({"codeprior.size": "000000001999999"}, "does not say its size"),
        ({"codeprior.size": "1" + "0" * 5000}, "does not say its size"),
        ({"codeprior.scale": "8192"}, "gives faces of more than 8192 px a side"),
        ({"licence": "x" * 2**20}, "letters of itself"),
    ],
)
def test_sizes_and_texts_have_a_bound(tmp_path, said, text):
    with pytest.raises(ValueError, match=text):
        OnnxModel(_file(tmp_path, said=said))


@pytest.mark.parametrize(
    "said",
    ["[" * 100_000, "[]", "{}", '{"default": 2, "low": 0, "high": 1}', '{"default": NaN, "low": 0, "high": 1}'],
)
def test_an_odd_fidelity_is_refused(tmp_path, said):
    path = _file(tmp_path, takes=(_IMAGE, _value("fidelity", shape=["b"])), said={"codeprior.fidelity": said})
    with pytest.raises(ValueError, match="takes a fidelity and does not say which ones"):
        OnnxModel(path)


def test_nothing_is_computed_while_a_file_is_read(tmp_path):
    # 128 TiB of zeros; smaller ones filled the memory
    nodes = [
        _helper.make_node("ConstantOfShape", ["sides"], ["large"]),
        _helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        _helper.make_node("Add", ["image", "sum"], ["restored"]),
    ]
    model = OnnxModel(_file(tmp_path, nodes, constants=[_constant("sides", np.array([2**45]))]))
    with pytest.raises(ValueError, match="OnnxModel: the program of the file cannot be run"):
        model.restore(_FACES)


def test_a_program_without_end_is_ended_and_prints_nothing(tmp_path, monkeypatch, capfd):
    body = _helper.make_graph(
        [_helper.make_node("Add", ["x", "x"], ["y"], name="\x1b[31m"), _helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [_value("at", _kinds.INT64, []), _value("go", _kinds.BOOL, []), _value("x")],
        [_value("on", _kinds.BOOL, []), _value("y")],
    )
    loop = _helper.make_node("Loop", ["times", "true", "image"], ["restored"], body=body, name="\x1b]0;title\x07")
    path = _file(tmp_path, [loop], constants=[_constant("times", np.int64(2**40)), _constant("true", np.bool_(True))])
    model = OnnxModel(path)
    monkeypatch.setattr(exported, "_SECONDS", 0.3)
    with pytest.raises(ValueError, match=r"the program of the file took more than 0\.3 s and was ended"):
        model.restore(_FACES)
    # the runtime's own log would hold the name of the node
    assert capfd.readouterr() == ("", "")
