"""The symmetric cross-entropy without the n × n matrix against the form that writes it out.

    python -m benchmarks.contrastive --quick --json rows.json

Nothing is timed where loss or gradients are off by more than float32 rounding. The floor is the bare products: one
n × n product forward, three forward and backward.
"""

import sys

import torch
from torch.nn import functional as F

from benchmarks._measure import Providers, arguments, compared, report, rows_of, settled
from codeprior.kernels import symmetric_cross_entropy
from codeprior.kernels.contrastive.reference import symmetric_cross_entropy_reference

QUICK = [(1024, 256), (4096, 256)]
FULL = [(n, d) for d in (64, 256, 512) for n in (256, 1024, 4096, 8192)]
SCALE = 14.3  # 1 / 0.07


def main() -> int:
    given = arguments(__doc__.splitlines()[0])
    rows: list[dict] = []
    with settled() as device:
        for n, d in QUICK if given.quick else FULL:
            first, second = (F.normalize(torch.randn(n, d, device=device), dim=1) for _ in range(2))
            scale = torch.tensor(SCALE, device=device)
            truth = _step(symmetric_cross_entropy_reference, *(part.double() for part in (first, second, scale)))
            ours = _step(_ours, first, second, scale)
            if _off(ours, truth) > 1e-5:
                print(f"wrong loss or gradients at n={n} d={d}: nothing is timed", file=sys.stderr)
                return 1
            for op, floor, providers in _ops(first, second, scale, quick=given.quick):
                seconds = 4 if given.quick else 20
                for row in rows_of(op, {"n": n, "d": d}, floor | providers, floor="torch.mm", seconds=seconds):
                    if row["impl"] != "torch.mm":
                        found = providers[row["impl"]]()
                        row["relative_error"] = _off(found if isinstance(found, tuple) else (found,), truth)
                        row["wrong"] = int(row["relative_error"] > 1e-5)
                    rows.append(row)
        compared(rows)
        report(rows, given, missing=[], left_out=["torch.compile"] if given.quick else [])
    return 0


def _ops(first, second, scale, *, quick: bool) -> list[tuple[str, Providers, Providers]]:
    out = torch.empty(len(first), len(first), device=first.device)
    ways = {"codeprior": _ours, "written out": symmetric_cross_entropy_reference}
    if not quick:
        ways["torch.compile"] = torch.compile(symmetric_cross_entropy_reference, dynamic=False)

    def three():
        torch.mm(first, second.T, out=out)
        return out @ second, out.T @ first

    forward = {name: lambda way=way: way(first, second, scale) for name, way in ways.items()}
    both = {name: lambda way=way: _step(way, first, second, scale) for name, way in ways.items()}
    return [
        ("forward", {"torch.mm": lambda: torch.mm(first, second.T, out=out)}, forward),
        ("forward+backward", {"torch.mm": three}, both),
    ]


def _ours(first: torch.Tensor, second: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return symmetric_cross_entropy(first, second, scale=scale)


def _step(way, first, second, scale) -> tuple[torch.Tensor, ...]:
    first, second = first.detach().requires_grad_(), second.detach().requires_grad_()
    loss = way(first, second, scale)
    return loss.detach(), *torch.autograd.grad(loss, (first, second))


def _off(found: tuple[torch.Tensor, ...], truth: tuple[torch.Tensor, ...]) -> float:
    pairs = zip(found, truth, strict=False)
    return max(float((mine.double() - exact).abs().max() / exact.abs().max()) for mine, exact in pairs)


if __name__ == "__main__":
    raise SystemExit(main())
