"""The lookup against every peer that is installed: time, memory above inputs, and indices that are not the nearest.

    python -m benchmarks.nearest_code --quick --json rows.json

The op's own correctness is checked first and ends the run where it fails. The floor is a bare `torch.mm` of the same
size, interleaved with the others.
"""

import importlib.util
import sys

import torch
from einops import rearrange

from benchmarks._measure import Providers, about, arguments, interleaved, peak_bytes, report, show
from codeprior.kernels import lookup, nearest_code
from codeprior.kernels.nearest_code.compiled import why_not_compiled

QUICK = [(4096, 1024, 256), (16384, 1024, 8), (256, 1024, 256)]
PEERS = ("faiss", "pykeops", "flash_kmeans", "fastkmeans", "cuvs", "vector_quantize_pytorch")
FULL = [(n, k, d) for d in (8, 32, 256) for k in (1024, 16384) for n in (256, 4096, 65536) if n * k * d < 2e11]


def main() -> int:
    given = arguments(__doc__.splitlines()[0])
    torch.manual_seed(0)
    if torch.get_num_threads() > 1 and not torch.cuda.is_available():
        torch.set_num_threads(1)  # CPU time is only comparable on one thread
    rows: list[dict] = []
    facts = about()
    for n, k, d in QUICK if given.quick else FULL:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        x, c = torch.randn(n, d, device=device), torch.randn(k, d, device=device)
        truth = _truth(x, c)
        ours = nearest_code(x, c)
        if not torch.equal(ours, truth):
            print(f"wrong indices at n={n} k={k} d={d}: nothing is timed", file=sys.stderr)
            return 1
        for op, providers in _ops(x, c).items():
            with_floor = {"torch.mm": lambda x=x, c=c: x @ c.T} | providers
            times = interleaved(with_floor, seconds=1.5 if given.quick else 60)
            for impl, run in with_floor.items():
                found = run() if impl != "torch.mm" and op == "search" else None
                ms = times[impl]
                rows.append(
                    {"op": op, "n": n, "k": k, "d": d, "impl": impl, "ms": ms[1], "ms_quantiles": ms}
                    | {"floor_ms": times["torch.mm"][1], "ratio": round(ms[1] / times["torch.mm"][1], 3)}
                    | {"wrong": None if found is None else int((found.flatten().long() != truth).sum())}
                    | {"peak_bytes": peak_bytes(run)}
                    | facts
                )
                show(rows[-1])
    report(rows, given.json, missing=[name for name in PEERS if not _installed(name)])
    return 0


def _ops(x: torch.Tensor, c: torch.Tensor) -> dict[str, Providers]:
    search: Providers = {"codeprior": lambda: nearest_code(x, c), "official": lambda: _official(x, c)[0]}
    search["codeprior-blocked"] = lambda: nearest_code(x, c, impl="blocked")
    search["codeprior-fast"] = lambda: nearest_code(x, c, mode="fast")
    search["torch.cdist"] = lambda: torch.cdist(x, c).argmin(1)
    if _installed("faiss") and x.device.type == "cpu":
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        search["faiss"] = lambda: torch.from_numpy(faiss.knn(x.numpy(), c.numpy(), 1)[1][:, 0])
    forward: Providers = {"codeprior": lambda: lookup(x, c), "official": lambda: _official(x, c)}
    return {"search": search, "forward": forward, **_training(x, c)}


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
    averages: Providers = {"codeprior": lambda: averaged(latent)}
    if _installed("vector_quantize_pytorch"):
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


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    if reason := why_not_compiled():
        print(f"the compiled lookup cannot run here: {reason}")
    raise SystemExit(main())
