"""How a codebook begins: with k-means on latents that were collected before the first lookup, not with random rows.

Most rows of a random table would never be chosen. An encoder that is first trained without codes has latents whose
distribution the codes can start from. Source: Łańcucki et al. 2020 (*Robust training of vector quantized bottleneck
models*), section III, and Zeghidour et al. 2021 (SoundStream), section III-C, for residual tables.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from codeprior.kernels.code_stats import code_stats
from codeprior.kernels.nearest_code import lookup
from codeprior.shapes import Latent

Vectors = Float[Tensor, "n d"]


def kmeans(vectors: Vectors, size: int, *, iterations: int = 12, seed: int = 0) -> Float[Tensor, "k d"]:
    """Gives the centres that Lloyd's iterations find; the same for the same vectors and seed.

    A centre that no vector chooses is moved to a vector drawn at random.

    Args:
        vectors: What is clustered, float32.
        size: Count of centres.
        iterations: How often the centres move.
        seed: Of the draws.

    Returns:
        The centres, float32, on the vectors' device.

    Raises:
        ValueError: There is no vector, or a value is not finite.

    Source: Lloyd 1982; the nearest centres are the library's own exact lookup.
    """
    if not len(vectors) or not vectors.isfinite().all():
        raise ValueError(f"kmeans: expected finite vectors, at least one, got {len(vectors)}.")
    generator = torch.Generator().manual_seed(seed)

    def drawn(count: int) -> Tensor:
        # no vector is drawn twice as long as there are enough
        order = torch.randperm(len(vectors), generator=generator)
        return vectors[order.repeat(-(-count // len(vectors)))[:count].to(vectors.device)]

    with torch.no_grad():
        vectors = vectors.float().contiguous()
        centres = drawn(size).clone()
        for _ in range(iterations):
            found = code_stats(vectors, lookup(vectors, centres).indices, size=size)
            means = found.sums / found.counts.clamp(min=1)[:, None]
            centres = torch.where(found.counts[:, None] > 0, means, drawn(size)).float()
    return centres


def unused(counts: Float[Tensor, "*m k"], *, below: float) -> Bool[Tensor, "*m k"]:
    """Gives which codes are chosen less than a share of the mean use of their table.

    Args:
        counts: How often each code of each table was chosen, over many batches, see `UsageMeter`.
        below: Share of the mean, in [0, 1).

    Raises:
        ValueError: The share is out of range.
    """
    if not 0 <= below < 1:
        raise ValueError(f"unused: expected below in [0, 1), got {below}.")
    return counts < below * counts.mean(-1, keepdim=True)


def exchanged(
    table: Float[Tensor, "k d"], vectors: Vectors, dead: Bool[Tensor, " k"], *, seed: int
) -> Float[Tensor, "k d"]:
    """Gives a table in which dead codes are replaced by vectors that are drawn; it does not wait for the device.

    Args:
        table: The codes.
        vectors: What is drawn from; none is drawn twice while there are enough. One that is not finite replaces no
            code.
        dead: Which codes are exchanged.
        seed: Of the draws; the same vectors and seed give the same table, on every rank.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(vectors), generator=generator).repeat(-(-len(table) // len(vectors)))[: len(table)]
    if vectors.is_cuda:
        order = order.pin_memory()
    drawn = vectors[order.to(vectors.device, non_blocking=True)].to(table.dtype)
    return torch.where(dead[:, None] & drawn.isfinite().all(1, keepdim=True), drawn, table)


class LatentReservoir(nn.Module):
    """The newest vectors of the latents that a training run has seen; a checkpoint holds them.

    Args:
        dim: Width of a vector.
        room: How many are kept; older ones are overwritten.

    Attributes:
        vectors: `(room, dim)` buffer.
        seen: How many vectors have been added in all, int64 scalar buffer.
    """

    vectors: Tensor
    seen: Tensor

    def __init__(self, dim: int, room: int = 16384):
        super().__init__()
        self.room = room
        self.register_buffer("vectors", torch.zeros(room, dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, latent: Latent) -> None:
        """Adds the vectors of a latent `b d h w`; where it has more than `room`, only the last ones are kept."""
        rows = rearrange(latent, "b d h w -> (b h w) d").to(self.vectors.dtype)[-self.room :]
        places = (self.seen + torch.arange(len(rows), device=rows.device)) % self.room
        self.vectors.index_copy_(0, places, rows)
        self.seen += len(rows)

    def held(self) -> Vectors:
        """Gives the vectors that are there, at most `room` of them."""
        return self.vectors[: min(int(self.seen), self.room)]
