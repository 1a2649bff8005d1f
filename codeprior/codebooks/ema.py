"""A codebook whose codes are moving averages of the vectors that chose them, with revival of codes that none chooses.

Source: van den Oord et al. 2017, appendix A.1; revival after Dhariwal et al. 2020 (Jukebox), section 3.1. Deliberate
differences: the threshold is a share of the mean use, so that it does not depend on the batch size; a revived code
gets its average and its count together, so that the next update does not undo it; draws are a hash of the saved step,
so that a resumed run draws the same; one all-reduce carries counts, sums and candidates.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from codeprior import distributed
from codeprior.codebooks.codebook import Quantized, check_sizes, codes_at
from codeprior.codebooks.gradients import Passage, pass_gradient
from codeprior.codebooks.start import Vectors, kmeans
from codeprior.kernels.code_stats import code_stats
from codeprior.kernels.nearest_code import lookup
from codeprior.layers.configured import configured
from codeprior.shapes import Indices, Latent


@configured
class MovingAverageCodebook(nn.Module):
    """A codebook that follows its vectors by moving averages; it updates itself in each training forward.

    count ← decay · count + (1 − decay) · n,  sum ← decay · sum + (1 − decay) · Σ x,  code = sum / count

    with the counts smoothed by `smoothing` in the division. The table is a buffer: no optimiser moves
    it, `codes` carries no gradient, and only the commitment term of `codebook_loss` has an effect.

    Args:
        size: Count of codes.
        dim: Width of a code.
        decay: Share that the averages keep at each step, in [0, 1).
        revive_below: A code whose average count falls under this share of the mean count is set to a vector of the
            current batch, and starts again at the mean count; 0 never revives.
        smoothing: Laplace smoothing of the counts.
        initialise_from_batch: The first training batch replaces every code by one of its vectors, after its lookup.
        seed: Seed of the draws.
        gradient: How it passes to the latent, `"straight_through"` or `"rotation"`.

    Raises:
        ValueError: `decay` or `revive_below` is out of range.

    Attributes:
        weight: `(size, dim)` buffer, float32, uniform in (−1/size, 1/size) at first.
        counts: `(size,)` buffer, float32, average count of each code in a batch, over all ranks.
        sums: `(size, dim)` buffer, float32, average sum of the vectors of each code.
        step: Updates so far, int64 scalar buffer; together with `seed` it decides the draws.

    Note:
        Under `torch.distributed` every rank must run its training forwards together: each makes one all-reduce. An
        update that is not finite, on any rank, changes nothing on all of them.
    """

    weight: Tensor
    counts: Tensor
    sums: Tensor
    step: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        decay: float = 0.99,
        revive_below: float = 0.05,
        smoothing: float = 1e-5,
        initialise_from_batch: bool = False,
        seed: int = 0,
        gradient: Passage = "straight_through",
    ):
        super().__init__()
        check_sizes("MovingAverageCodebook", size, dim)
        if not 0 <= decay < 1:
            raise ValueError(f"MovingAverageCodebook: expected decay in [0, 1), got {decay}.")
        if not 0 <= revive_below < 1:
            raise ValueError(f"MovingAverageCodebook: expected revive_below in [0, 1), got {revive_below}.")
        self.size, self.dim, self.decay, self.revive_below = size, dim, decay, revive_below
        self.smoothing, self.initialise_from_batch, self.seed = smoothing, initialise_from_batch, seed
        self.gradient: Passage = gradient
        self.register_buffer("weight", torch.empty(size, dim).uniform_(-1 / size, 1 / size))
        self.register_buffer("counts", torch.ones(size))
        self.register_buffer("sums", self.weight.clone())
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, latent: Latent) -> Quantized:
        """Exchanges each vector for its nearest code; in training the codes are updated afterwards.

        Args:
            latent: `b d h w`, with `d = dim`.

        Returns:
            values: The codes before the update, with a gradient to the latent, in its type.
            codes: The same codes without a gradient.
            indices: `b h w`, int64.

        Raises:
            ValueError: The latent's width is not `dim`.
            RuntimeError: In training, inside activation recomputation (`torch.utils.checkpoint`).
        """
        if self.training:
            _refuse_recomputation()
        found = lookup(latent.detach(), self.weight)
        if self.training:
            self._follow(latent.detach(), found.indices)
        return Quantized(pass_gradient(latent, found.codes, how=self.gradient), found.codes, found.indices)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b h w`, integers in [0, size).

        Returns:
            `b d h w`, float32.

        Raises:
            TypeError: They are no integers.
            ValueError: They are not `b h w`; or, on the CPU, one is out of range.
        """
        return codes_at(indices, self.weight)

    @torch.no_grad()
    def start(self, vectors: Vectors, *, seed: int = 0) -> None:
        """Sets the codes to the centres that k-means finds among these vectors, and their averages with them.

        Args:
            vectors: `(n, d)`, as the encoder gives them; several for each code. The same on every rank.
            seed: Of the draws.

        Raises:
            ValueError: There is no vector, or a value is not finite.
        """
        centres = kmeans(vectors, self.size, seed=seed)
        counts = code_stats(vectors.float(), lookup(vectors.float(), centres).indices, size=self.size).counts
        # a mean count of one; later batches bring it to their own mean, and until then only ratios of counts are used
        self.counts.copy_(counts * (self.size / counts.sum()))
        self.weight.copy_(centres)
        self.sums.copy_(centres * self.counts[:, None])
        self.step.clamp_(min=1)  # so that the first batch does not replace these codes

    def extra_repr(self) -> str:
        return f"size={self.size}, dim={self.dim}, decay={self.decay}, revive_below={self.revive_below}"

    @torch.no_grad()
    def _follow(self, latent: Tensor, indices: Tensor) -> None:
        reviving = self.revive_below > 0 or self.initialise_from_batch
        found = code_stats(latent, indices, size=self.size)
        kind = self.counts.dtype
        parts = [found.counts[:, None], found.sums, *([self._candidates(latent)] if reviving else [])]
        parts = [part.to(kind) for part in parts]
        packed = distributed.sum_over_ranks(torch.cat(parts, 1))
        # a sum is finite only if every term is
        fine = packed.sum().isfinite()
        packed.masked_fill_(~fine, 0)
        share = torch.where(fine, 1 - self.decay, 0.0).to(kind)
        self.counts.lerp_(packed[:, 0], share)
        self.sums.lerp_(packed[:, 1 : 1 + self.dim], share)
        total = self.counts.sum()
        smoothed = (self.counts + self.smoothing) / (total + self.size * self.smoothing) * total
        # a share of 1 takes the new value to the bit, and one of 0 keeps the old
        self.weight.lerp_(self.sums / smoothed[:, None], fine.to(kind))
        if reviving:
            self._revive(packed[:, 1 + self.dim :], mean=total / self.size, fine=fine)
        self.step.add_(1)

    def _revive(self, candidates: Tensor, *, mean: Tensor, fine: Tensor) -> None:
        dead = self.counts < self.revive_below * mean
        if self.initialise_from_batch:
            dead = dead | (self.step == 0)
        dead = dead & fine
        self.counts.copy_(torch.where(dead, mean, self.counts))
        dead = dead[:, None]
        self.weight.copy_(torch.where(dead, candidates, self.weight))
        self.sums.copy_(torch.where(dead, candidates * mean, self.sums))

    def _candidates(self, latent: Tensor) -> Tensor:
        """Gives one vector of the batch for every code, from one rank; the other ranks give zeros, so sums agree."""
        rows = rearrange(latent, "b d h w -> b (h w) d")
        length, count = rows.shape[1], rows.shape[0] * rows.shape[1]
        codes = torch.arange(self.size, device=rows.device)
        noise = _mixed(codes + _mixed(self.step + _mixed(torch.full_like(self.step, self.seed))))
        start = codes * count // self.size
        width = ((codes + 1) * count // self.size - start).clamp(min=1)
        place = (start + noise % width + _mixed(self.step)) % count
        chosen = rows[place // length, place % length].to(self.weight.dtype)
        return torch.where((_mixed(noise) % distributed.world() == distributed.rank())[:, None], chosen, 0)


def _refuse_recomputation() -> None:
    # a forward pass inside a backward pass is a recomputation. The codes have moved since the first one: it would
    # choose other codes, give the gradients of another function, and update the codes a second time
    if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            "MovingAverageCodebook: its forward pass is being run again during the backward pass, where its codes have "
            "moved already; keep it outside of torch.utils.checkpoint, or call eval() on it."
        )


def _mixed(value: Tensor) -> Tensor:
    """A 32-bit integer hash (constants: Chris Wellons, lowbias32); products stay below 2^63."""
    value = value & 0xFFFFFFFF
    value = ((value ^ (value >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    value = ((value ^ (value >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return value ^ (value >> 16)
