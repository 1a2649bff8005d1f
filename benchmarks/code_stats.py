"""Counts and sums by code against the usual ways to take them: a scattered sum, and a product with the one-hot matrix.

    python -m benchmarks.code_stats --quick --json rows.json

Nothing is timed where the counts are wrong, a sum is off by more than rounding, or a second run differs in one bit. The
floor is the sum over all vectors, which reads them once.
"""

import sys

import torch
from torch.nn import functional as F

from benchmarks._measure import Providers, arguments, compared, report, rows_of, settled
from codeprior.kernels import code_stats

QUICK = [(4096, 1024, 256), (65536, 1024, 8), (16384, 16384, 64)]
FULL = [(n, k, d) for d in (8, 64, 256) for k in (1024, 16384) for n in (4096, 65536, 262144) if n * d <= 2**25]


def main() -> int:
    given = arguments(__doc__.splitlines()[0])
    rows: list[dict] = []
    with settled() as device:
        for n, k, d in QUICK if given.quick else FULL:
            x, indices = torch.randn(n, d, device=device), torch.randint(0, k, (n,), device=device)
            counts, sums = code_stats(x, indices, size=k)
            truth = torch.zeros(k, d, dtype=torch.float64, device=device).index_add_(0, indices, x.double())
            again = code_stats(x, indices, size=k)
            # |x| < 8, and float32 sums of as many terms as the fullest code has
            slack = 8 * 2.0**-24 * int(counts.max()) ** 2
            fine = torch.equal(counts, torch.bincount(indices, minlength=k)) and torch.equal(sums, again.sums)
            if not fine or (sums.double() - truth).abs().max() > slack:
                print(f"wrong statistics at n={n} k={k} d={d}: nothing is timed", file=sys.stderr)
                return 1
            providers: Providers = {
                "sum": lambda x=x: x.sum(0),
                "codeprior": lambda x=x, at=indices, k=k: tuple(code_stats(x, at, size=k)),
                "index_add": lambda x=x, at=indices, k=k: _scattered(x, at, k),
            }
            if n * k <= 2**25:
                providers["one-hot product"] = lambda x=x, at=indices, k=k: _one_hot(x, at, k)
            sizes = {"n": n, "k": k, "d": d}
            for row in rows_of("code_stats", sizes, providers, floor="sum", seconds=4 if given.quick else 20):
                found = None if row["impl"] == "sum" else providers[row["impl"]]()
                # codes whose count or sum is off by more than rounding
                if isinstance(found, tuple):
                    off = (found[1].double() - truth).abs().amax(1) > slack
                    row["wrong"] = int((off | (found[0] != counts)).sum())
                rows.append(row)
        compared(rows)
        report(rows, given, missing=[])
    return 0


def _scattered(x: torch.Tensor, indices: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Adds atomically on a GPU, where the sum depends on the order of arrival."""
    return torch.bincount(indices, minlength=k), torch.zeros(k, x.shape[1], device=x.device).index_add_(0, indices, x)


def _one_hot(x: torch.Tensor, indices: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    hot = F.one_hot(indices, k).float()
    return hot.sum(0), hot.T @ x


if __name__ == "__main__":
    raise SystemExit(main())
