"""Whether this GPU's tensor cores add as exactly as the lookup's certificate assumes: run it before trusting a device.

    python -m benchmarks.accumulation

The same product of float16 tiles as in the kernel, on vectors made to lose bits, against float64. Tensor cores align
and truncate; the certificate allows GAMMA · |x| · |c|. Prints the largest share of that which was used, and ends with 1
where it is above 1. On the CPU it runs under TRITON_INTERPRET=1, and then says nothing about a GPU.
"""

import os
import sys

import torch
import triton
import triton.language as tl
from torch import Tensor

SIDE = 64


@triton.jit
def tile_product(rows_ptr, codes_ptr, out_ptr, DP: tl.constexpr, SIDE: tl.constexpr):
    """Products of SIDE rows with SIDE codes, both `(SIDE, DP)` float16, as `certified._tile` takes them."""
    place, dims = tl.arange(0, SIDE), tl.arange(0, DP)
    rows = tl.load(rows_ptr + place[:, None] * DP + dims[None, :])
    codes = tl.load(codes_ptr + place[None, :] * DP + dims[:, None])
    tl.store(out_ptr + place[:, None] * SIDE + place[None, :], tl.dot(rows, codes))


def main() -> int:
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        print("no GPU is here; TRITON_INTERPRET=1 tries the command itself", file=sys.stderr)
        return 2
    device = "cuda" if torch.cuda.is_available() else "cpu"
    worst = 0.0
    for width in (16, 64, 128, 256, 512):
        for name, (rows, codes) in adversaries(width).items():
            share = used(rows.to(device), codes.to(device))
            worst = max(worst, share)
            print(f"width {width:3d}  {name:32s} {share:8.4f} of the bound")
    print(f"{'the bound holds' if worst <= 1 else 'THE BOUND IS BROKEN: use impl=blocked here'}: {worst:.4f}")
    return int(worst > 1)


def used(rows: Tensor, codes: Tensor) -> float:
    """Gives the largest error of the product, over what the certificate allows."""
    width = rows.shape[1]
    out = torch.empty(SIDE, SIDE, device=rows.device)
    tile_product[(1,)](rows, codes, out, DP=width, SIDE=SIDE)
    rows, codes = rows.double(), codes.double()
    allowed = gamma(width) * rows.norm(dim=1)[:, None] * codes.norm(dim=1)
    return float(((out.double() - rows @ codes.T).abs() / allowed.clamp(min=1e-300)).max())


def gamma(width: int) -> float:
    """GAMMA of `certified._screened`."""
    return (width + width // 8 + 4) * 2.0**-23


def adversaries(width: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of `(64, width)` in float16 whose sums lose bits: by cancelling, alignment, or always rounding down."""
    generator = torch.Generator().manual_seed(width)
    normal = torch.randn(2, SIDE, width, generator=generator)
    sign = torch.where(torch.arange(width) % 2 == 0, 1.0, -1.0)
    # one large product first, or in the middle of every eight, and many that are half a unit of its last bit
    first, amid = torch.full((SIDE, width), 2.0**-6), torch.full((SIDE, width), 2.0**-6)
    first[:, 0], amid[:, 3::8] = 2.0, 2.0
    odd = 1 + torch.randint(0, 512, (2, SIDE, width), generator=generator) * 2.0**-9
    decades = torch.exp2(-(torch.arange(width) % 12).float())
    pairs = {
        "normal": (normal[0], normal[1]),
        "all of one sign": (normal[0].abs(), normal[1].abs()),
        "every pair cancels": (odd[0], odd[0] * sign),
        "odd last bits": (odd[0], odd[1]),
        "one large, then small": (first, first * (1 + 2.0**-10)),
        "large among small": (amid * sign, amid * (1 + 2.0**-10)),
        "twelve octaves": (odd[0] * decades, odd[1] * decades.flip(0)),
        "large ones cancel, small remain": (odd[0] * decades, odd[0] * decades * sign),
    }
    return {name: (rows.half(), codes.half()) for name, (rows, codes) in pairs.items()}


if __name__ == "__main__":
    raise SystemExit(main())
