"""Normal numbers from keys: the Triton kernel that ships, in the interpreter where there is no GPU, to the bit."""

import numpy as np
import pytest
import torch

from codeprior.degradations._draws import mix, quantile_table
from codeprior.degradations._draws import normal_field as written_out
from codeprior.kernels import normal_field
from codeprior.kernels.normal_field.fused import launch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KEYS = np.array([0, 1, -1, 2**62 + 12345, -(2**63)])
SIZES = [(1, 1), (7, 9), (12, 5), (3, 20), (11, 11)]


@pytest.mark.parametrize("lanes", [256, 64])
def test_the_kernel_gives_the_numbers_written_out_in_numpy(lanes):
    shared = torch.tensor([False, True, False, False, True])
    keys = torch.from_numpy(mix(KEYS.view(np.uint64)).view(np.int64))
    quantiles = torch.from_numpy(np.stack(quantile_table()))
    inputs = [part.to(DEVICE) for part in (keys, shared, torch.tensor(SIZES), quantiles)]
    for canvas in ((12, 20), (16, 23))[: 2 if lanes == 256 else 1]:
        ours = launch(*inputs, canvas, lanes=lanes).cpu()
        plain = normal_field(
            keys, shared, sizes=torch.tensor(SIZES), quantiles=quantiles, canvas=canvas, impl="reference"
        )
        for number, (height, width) in enumerate(SIZES):
            truth = written_out(int(KEYS[number]), height, width, 1 if shared[number] else 3)
            truth = torch.from_numpy(np.broadcast_to(truth, (height, width, 3)).copy()).permute(2, 0, 1)
            assert torch.equal(ours[number, :, :height, :width], truth)
            assert torch.equal(plain[number, :, :height, :width], truth)


def test_an_empty_batch_stays_empty():
    nothing = torch.zeros(0, dtype=torch.int64)
    assert launch(nothing, nothing, torch.zeros(0, 2), torch.zeros(2, 2048), (3, 4)).shape == (0, 3, 3, 4)


def test_wrong_shapes_are_named():
    key, size = torch.zeros(1, dtype=torch.int64), torch.ones(1, 2)
    with pytest.raises(ValueError, match=r"normal_field: expected shared \(1,\).*got \(2,\), \(1, 2\) and \(2, 2048\)"):
        normal_field(key, torch.zeros(2), sizes=size, quantiles=torch.zeros(2, 2048), canvas=(1, 1))
