"""GroupNorm and SiLU in one pass against the two operations of torch, forward and with the gradients.

    python -m benchmarks.group_norm_silu --quick --json rows.json

Sizes are those of the full-size networks at 512 pixels. Nothing is timed where an answer is off by more than rounding.
The floor is a copy of the feature: it is read once and written once.
"""

import sys

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._measure import Providers, arguments, report, rows_of, settled
from codeprior.kernels import group_norm_silu

QUICK = [(1, 128, 256), (8, 512, 16)]
FULL = [(1, 64, 512), (8, 64, 512), (8, 128, 256), (8, 256, 64), (8, 512, 16)]
GROUPS = 32
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def main() -> int:
    given = arguments(__doc__.splitlines()[0])
    rows: list[dict] = []
    with settled() as device:
        dtypes = (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,)
        # on the CPU both sides are the same operation: there the command is only tried
        sizes = [(1, 32, 16)] if device == "cpu" else QUICK if given.quick else FULL
        for (batch, channels, side), dtype, (layout, order) in (
            (size, dtype, pair) for size in sizes for dtype in dtypes for pair in LAYOUTS.items()
        ):
            feature = torch.randn(batch, channels, side, side, device=device).to(dtype).contiguous(memory_format=order)
            weight, bias = torch.randn(2, channels, device=device)
            exact = _plain(feature.double(), weight.double(), bias.double())
            off = float((_ours(feature, weight, bias).double() - exact).abs().max() / exact.abs().max())
            if off > (1e-5 if dtype == torch.float32 else 2.0**-8):
                print(f"off by {off} at {tuple(feature.shape)}, {dtype}, {layout}: nothing is timed", file=sys.stderr)
                return 1
            case = {"batch": batch, "pixels": side, "d": channels, "data": layout, "dtype": str(dtype).split(".")[1]}
            other = torch.empty_like(feature)
            parts = feature, weight, bias
            floor = {"copy": lambda other=other, feature=feature: other.copy_(feature)}
            for op, providers in {"forward": _forward(*parts), "forward+backward": _both(*parts)}.items():
                for row in rows_of(op, case, floor | providers, floor="copy", seconds=1 if given.quick else 5):
                    rows.append(row)
        report(rows, given, missing=[])
    return 0


def _ours(feature: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return group_norm_silu(feature, weight, bias, groups=GROUPS)


def _plain(feature: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.group_norm(feature, GROUPS, weight.to(feature.dtype), bias.to(feature.dtype), 1e-6))


def _forward(feature: Tensor, weight: Tensor, bias: Tensor) -> Providers:
    return {
        name: lambda way=way: way(feature, weight, bias) for name, way in {"codeprior": _ours, "torch": _plain}.items()
    }


def _both(feature: Tensor, weight: Tensor, bias: Tensor) -> Providers:
    parts = [part.detach().clone().requires_grad_() for part in (feature, weight, bias)]
    slope = torch.randn_like(feature)
    return {
        name: lambda way=way: torch.autograd.grad(way(*parts), parts, slope)
        for name, way in {"codeprior": _ours, "torch": _plain}.items()
    }


if __name__ == "__main__":
    raise SystemExit(main())
