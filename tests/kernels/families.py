"""Data on which lookups go wrong: offsets, duplicates, ties, many decades of scale, layouts; and the float64 truth."""

import torch
from torch import Tensor


def truth(rows: Tensor, codebook: Tensor) -> Tensor:
    """Indices by definition: every squared distance in float64, first of the smallest."""
    return (rows.double()[:, None] - codebook.double()).square().sum(-1).argmin(1)


def families(dim: int, *, rows: int = 32, codes: int = 70, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    pairs = normal(codes, dim)
    even = torch.randint(-3, 4, (codes, dim), generator=generator).float()
    return {
        "normal": (normal(rows, dim), normal(codes, dim)),
        "offset of 50": (normal(rows, dim) + 50, normal(codes, dim) + 50),
        "codes as at the start of training": (normal(rows, dim), (normal(codes, dim)) / 1024),
        "every code nine times": (normal(rows, dim), normal(max(1, codes // 9), dim).repeat(9, 1)),
        "all codes equal": (normal(rows, dim), normal(1, dim).repeat(codes, 1)),
        "on the codes": (pairs[torch.arange(rows) % codes].clone(), pairs),
        "between two codes": ((pairs[:-1] + pairs[1:])[torch.arange(rows) % (codes - 1)] / 2, pairs),
        "exact ties of integers": (even[torch.arange(rows) % codes].roll(1, 0) / 2, even),
        "25 decades of row scale": (normal(rows, dim) * torch.logspace(-20, 5, rows)[:, None], normal(codes, dim)),
        "zeros": (torch.zeros(rows, dim), normal(codes, dim)),
        "squares underflow": (normal(rows, dim) * 1e-25, normal(codes, dim) * 1e-25),
        "squares overflow": (normal(rows, dim) * 1e30, normal(codes, dim) * 1e30),
        "unit sphere": tuple(torch.nn.functional.normalize(normal(n, dim), dim=1) for n in (rows, codes)),
    }
