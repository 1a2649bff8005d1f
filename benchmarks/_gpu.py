"""What only a GPU's timings need: replays of a captured graph, and a second-level cache that begins empty."""

from collections.abc import Callable

import torch

from benchmarks._measure import Providers

EMPTYING = "(emptying the cache)"
_CACHE = 2**28  # bytes; more than any second-level cache


def graphed(run: Callable[[], object]) -> Callable[[], object]:
    """Captures a call in a CUDA graph; what it gives is written anew by each replay."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    # what compiles or allocates on first use must have done so before the capture
    with torch.cuda.stream(aside):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> object:
        graph.replay()
        return result

    return replay


def cold(providers: Providers) -> Providers:
    """Lets every provider begin with an empty second-level cache, and adds one that does nothing but empty it."""
    room = torch.empty(_CACHE, dtype=torch.int8, device="cuda")
    chilled: Providers = {EMPTYING: room.zero_}
    for name, run in providers.items():
        chilled[name] = lambda run=run: (room.zero_(), run())[1]
    return chilled
