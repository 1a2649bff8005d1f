"""The lookup against every peer that is installed: time, memory above outputs, and indices that are not the nearest.

    python -m benchmarks.nearest_code --quick --json rows.json --plot pictures/

Every implementation of ours must first give the float64 argmin on all families of data of the tests, and on the very
data that is timed; otherwise nothing is reported. The floor is a bare `torch.mm` of the same size into memory that is
there already, interleaved with the others; the roof is the least time that memory, products and comparisons of this
machine allow, taken in the same run. `python -m benchmarks.compare` is for single implementations.
"""

import importlib.util
import sys
import time
from collections.abc import Callable

import torch
from einops import rearrange

from benchmarks._measure import Providers, arguments, compared, report, rows_of, settled
from benchmarks._roofs import measured, roof
from codeprior.kernels import ImplUnavailable, explain, lookup, nearest_code
from tests.kernels.families import families
from tests.kernels.families import truth as smallest

QUICK = [(4096, 1024, 256), (16384, 1024, 8), (256, 1024, 256)]
FULL = [(n, k, d) for d in (8, 32, 256) for k in (1024, 16384) for n in (256, 4096, 65536) if n * k * d < 2e11]
PEERS = ("faiss", "pykeops", "flash_kmeans", "fastkmeans", "cuvs", "vector_quantize_pytorch")
SLOW_TO_START = ("torch.compile", "pykeops")  # they compile for tens of seconds


def main() -> int:
    given = arguments(__doc__.splitlines()[0])
    with settled() as device:
        print(explain(device))
        ours = {"codeprior": None} | {f"codeprior-{name}": name for name in ("blocked", "reference")}
        for dim in (8, 64):
            for name, (x, c) in families(dim).items():
                for impl in ours.values():
                    if not torch.equal(nearest_code(x.to(device), c.to(device), impl=impl).cpu(), smallest(x, c)):
                        print(f"wrong indices on {name!r} at width {dim}: nothing is timed", file=sys.stderr)
                        return 1
        rows: list[dict] = []
        roofs = measured(device)
        print(f"roofs: {roofs}")
        for n, k, d in QUICK if given.quick else FULL:
            print(f"{time.strftime('%H:%M:%S')}  n={n} k={k} d={d}", flush=True)
            x, c = torch.randn(n, d, device=device), torch.randn(k, d, device=device)
            truth = _truth(x, c)
            if not torch.equal(nearest_code(x, c), truth):
                print(f"wrong indices at n={n} k={k} d={d}: nothing is timed", file=sys.stderr)
                return 1
            product = torch.empty(n, k, device=device)
            floor = {"torch.mm": lambda x=x, c=c, out=product: torch.mm(x, c.T, out=out)}
            for op, providers in _ops(x, c, quick=given.quick).items():
                seconds = (2 if op == "search" else 1) if given.quick else 40
                for row in rows_of(op, {"n": n, "k": k, "d": d}, floor | providers, floor="torch.mm", seconds=seconds):
                    best = roof(roofs, n, k, d, writes_codes=op != "search")
                    row |= {
                        "roof_ms": round(best.ms, 5),
                        "bound": best.bound,
                        "over_roof": round(row["ms"] / best.ms, 3),
                    }
                    if op == "search" and row["impl"] != "torch.mm":
                        row["wrong"] = int((providers[row["impl"]]().flatten().long() != truth).sum())
                    rows.append(row)
        compared(rows)
        left_out = list(SLOW_TO_START) if given.quick else []
        report(rows, given, missing=[name for name in PEERS if not _runs(name, device)], left_out=left_out)
    return 0


def _ops(x: torch.Tensor, c: torch.Tensor, *, quick: bool) -> dict[str, Providers]:
    search: Providers = {
        "codeprior": lambda: nearest_code(x, c),
        "codeprior-fast": lambda: nearest_code(x, c, mode="fast"),
        "codeprior-blocked": lambda: nearest_code(x, c, impl="blocked"),
    }
    forward: Providers = {"codeprior": lambda: tuple(lookup(x, c))}
    # the n x k peers do not fit any more
    if len(x) * len(c) <= 2**28:
        search["official"] = lambda: _official(x, c)[0]
        search["torch.cdist"] = lambda: torch.cdist(x, c).argmin(1)
        forward["official"] = lambda: _official(x, c)
        if not quick:
            compiled = torch.compile(_official, dynamic=False)
            search["torch.compile"] = lambda: compiled(x, c)[0]
            forward["torch.compile"] = lambda: compiled(x, c)
    if _runs("faiss", x.device.type):
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        search["faiss"] = lambda: torch.from_numpy(faiss.knn(x.numpy(), c.numpy(), 1)[1][:, 0])
    if not quick and _runs("pykeops", x.device.type):
        from pykeops.torch import LazyTensor

        search["pykeops"] = lambda: ((LazyTensor(x[:, None]) - LazyTensor(c[None])) ** 2).sum(-1).argmin(1)[:, 0]
    if _runs("fastkmeans", x.device.type):
        search["fastkmeans"] = _fastkmeans(x, c)
    if _runs("flash_kmeans", x.device.type):
        from flash_kmeans.assign_euclid_triton import euclid_assign_triton

        search["flash_kmeans"] = lambda: euclid_assign_triton(x[None], c[None], x.square().sum(1)[None])[0]
    return {"search": search, "forward": forward, **_training(x, c)}


def _fastkmeans(x: torch.Tensor, c: torch.Tensor) -> Callable[[], object]:
    from fastkmeans import FastKMeans

    if x.is_cuda:
        from fastkmeans.triton_kernels import triton_kmeans

        def assign() -> torch.Tensor:
            found = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            triton_kmeans(x, x.square().sum(1), c, c.square().sum(1), found)
            return found

        return assign
    means = FastKMeans(x.shape[1], len(c), gpu=False)
    means.centroids, rows = c.numpy(), x.numpy()
    return lambda: torch.from_numpy(means.predict(rows))


def _training(x: torch.Tensor, c: torch.Tensor) -> dict[str, Providers]:
    """Forward and backward, and forward with moving averages, against vector-quantize-pytorch."""
    from codeprior.codebooks import Codebook, MovingAverageCodebook

    k, d = c.shape
    latent = rearrange(x, "n d -> 1 d n 1").contiguous()
    learned, averaged = Codebook(k, d).to(x.device), MovingAverageCodebook(k, d, revive_below=0).to(x.device)

    def step():
        z = latent.detach().requires_grad_()
        found = learned(z)
        (found.values.sum() + (found.codes - z.detach()).square().mean()).backward()

    gradient: Providers = {"codeprior": step}
    averages: Providers = {"codeprior": lambda: tuple(averaged(latent))}
    if _runs("vector_quantize_pytorch", x.device.type) and len(x) * k <= 2**28:
        from vector_quantize_pytorch import VectorQuantize

        peer = VectorQuantize(dim=d, codebook_size=k, threshold_ema_dead_code=0).to(x.device)
        taught = VectorQuantize(
            dim=d, codebook_size=k, threshold_ema_dead_code=0, learnable_codebook=True, ema_update=False
        ).to(x.device)

        def peer_step():
            z = x[None].detach().requires_grad_()
            values, _, loss = taught(z)
            (values.sum() + loss.sum()).backward()

        gradient["vector-quantize-pytorch"] = peer_step
        averages["vector-quantize-pytorch"] = lambda: peer(x[None])
    return {"forward+backward": gradient, "forward+averages": averages}


def _official(x: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The form that restorers ship: the whole distance matrix, then a one-hot product."""
    distances = x.square().sum(1, keepdim=True) + c.square().sum(1) - 2 * x @ c.T
    indices = distances.argmin(1)
    hot = torch.zeros(len(x), len(c), device=x.device).scatter_(1, indices[:, None], 1)
    return indices, hot @ c


def _truth(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The float64 argmin: a float64 product finds the two nearest, their differences in float64 decide."""
    found = []
    for part in x.split(1024):
        scores = (c.double().square().sum(1) / 2).addmm(part.double(), c.double().T, alpha=-1)
        near = scores.topk(min(2, len(c)), 1, largest=False).indices.sort(1).values
        exact = (part.double()[:, None] - c.double()[near]).square().sum(-1)
        found.append(near.gather(1, exact.argmin(1, keepdim=True))[:, 0])
    return torch.cat(found)


def _runs(name: str, device: str) -> bool:
    if importlib.util.find_spec(name) is None:
        return False
    return name not in {"cpu": ("flash_kmeans", "cuvs"), "cuda": ("faiss",)}[device]


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except ImplUnavailable as error:
        raise SystemExit(str(error)) from error
