"""Ways that are written for files run in exported graphs alone, never in models that are compiled for this process."""

import pytest
import torch

from codeprior.kernels._exporting import exporting


class Marked(torch.nn.Module):
    def forward(self, x):
        return x + 100 if exporting() else x


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiling_is_not_exporting(dynamic):
    whole = torch.compile(Marked(), backend="aot_eager", fullgraph=True, dynamic=dynamic)
    assert whole(torch.zeros(2)).tolist() == Marked()(torch.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("strict", [False, True])
def test_exporting_is(strict):
    program = torch.export.export(Marked(), (torch.zeros(2),), strict=strict)
    assert program.module()(torch.zeros(2)).tolist() == [100, 100]
    assert not exporting()
