"""What a call of the Triton lookup asks of the device, and for which arguments its kernels are compiled anew."""

import ast
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from codeprior.kernels.nearest_code import certified, doubtful, fused, prepared, residual

ROOM = Path(fused.__file__).parents[1]
# what the host does alone: views, memory that is set aside, a question about types
HOST = {"select", "unbind", "view", "slice", "detach", "t", "transpose", "alias", "expand", "unsqueeze", "permute"}
HOST |= {"empty", "empty_strided", "empty_like", "new_empty", "promote_types"}


class Noted(TorchDispatchMode):
    """The names of the operations of torch that a device would have to run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.names += [] if name in HOST else [name]
        return function(*args, **(kwargs or {}))


@pytest.fixture
def launched(monkeypatch) -> list[str]:
    """The kernels' names as they are launched; none runs."""
    names = []

    class Recorded:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            return lambda *arguments, **sizes: names.append(self.name)

    kernels = {"table_range": prepared, "table_codes": prepared, "certified_lookup": certified, "settle_rows": doubtful}
    for name, module in kernels.items():
        monkeypatch.setattr(module, name, Recorded(name))
    return names


@pytest.mark.parametrize(("rows", "codes", "width"), [(256, 1024, 256), (9000, 1024, 8), (64, 65536, 32), (5, 3, 2)])
@pytest.mark.parametrize("write", [False, True])
def test_a_call_is_four_launches_and_no_other_operation(rows, codes, width, write, launched):
    """The version before prepared a table by 45 operations a call, by 95 where it had 65,536 codes."""
    x, table = torch.randn(1, rows, width), torch.randn(codes, width)
    with Noted() as noted:
        fused.launch(x, table, write=write)
    assert launched == ["table_range", "table_codes", "certified_lookup", "settle_rows"]
    assert noted.names == []


def test_a_residual_call_is_two_launches_a_stage_after_the_tables(launched):
    rows, tables = torch.randn(50, 8), torch.randn(3, 20, 8)
    with Noted() as noted:
        residual.launch(rows, tables)
    assert launched == ["table_range", "table_codes", *["certified_lookup", "settle_rows"] * 3]
    # a copy of the rows, from which codes are taken away; the lists' lengths of two more stages; the answer's layout
    assert sorted(noted.names) == ["_to_copy", "clone", "zero_", "zero_"]


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ("nearest_code/certified.py", set()),
        ("nearest_code/doubtful.py", set()),
        ("nearest_code/prepared.py", set()),
        # a multiple of 16 lets rows be read several numbers at a time
        ("code_stats/fused.py", {"size"}),
        ("contrastive/fused.py", {"D"}),
    ],
)
def test_no_size_of_a_call_makes_the_compiler_start_again(file, kept):
    """Triton compiles a kernel anew where a whole number is 1 or a multiple of 16, unless it is told not to."""
    kernels = 0
    for node in ast.parse((ROOM / file).read_text()).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        words = [call for call in node.decorator_list if isinstance(call, ast.Call) and "jit" in ast.dump(call.func)]
        numbers = {
            argument.arg for argument in node.args.args if argument.annotation is None and "_ptr" not in argument.arg
        }
        if not words or not any("_ptr" in argument.arg for argument in node.args.args):
            continue
        kernels += 1
        (left_alone,) = (ast.literal_eval(word.value) for word in words[0].keywords if word.arg == "do_not_specialize")
        assert numbers - set(left_alone) <= kept, node.name
    assert kernels >= 1
