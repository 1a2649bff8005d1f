"""Several codebooks for one latent: side by side on groups of its channels, or one after the other on what is left."""

from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from codeprior.codebooks.codebook import Codebook, Quantized
from codeprior.codebooks.gradients import straight_through
from codeprior.codebooks.start import Vectors
from codeprior.kernels._choose import wanted
from codeprior.kernels._device import why_not_triton
from codeprior.kernels.nearest_code import lookup, residual_code
from codeprior.layers.configured import build, configured
from codeprior.shapes import Latent, ManyIndices


class Stages(NamedTuple):
    """What `ResidualCodebook.stages` gives."""

    inputs: list[Latent]
    """What each stage was given: the residual of those before it."""
    outputs: list[Quantized]
    """What each stage gave."""


@configured
class GroupedCodebook(nn.Module):
    """Codebooks side by side: the channels are cut into groups, and each group has a table, or all share one.

    With separate tables this is product quantisation; with a shared one, several heads of one table.

    Args:
        codebook: The table of the first group, of width `dim / groups`; any configured codebook. The others are built
            from its arguments, with fresh weights.
        groups: Count of groups.
        shared: All groups use the one table.

    Attributes:
        size: Codes of a table.
        dim: Width of the whole.

    Source: Jégou et al. 2011 (product quantisation); heads as in lucidrains/vector-quantize-pytorch.
    """

    size: int
    dim: int

    def __init__(self, codebook: nn.Module, *, groups: int, shared: bool = False):
        super().__init__()
        first: Any = codebook
        self.groups, self.shared = groups, shared
        self.size, self.dim = first.size, first.dim * groups
        self.codebooks = _family(first, 1 if shared else groups)

    def forward(self, latent: Latent) -> Quantized:
        """Exchanges each group of channels for its nearest code.

        Args:
            latent: `b d h w`, with `d = dim`.

        Returns:
            values: `b d h w`, with a gradient to the latent.
            codes: `b d h w`, with a gradient to the tables where they learn by gradient.
            indices: `b m h w`, int64, one for each group.

        Raises:
            ValueError: The latent's width is not `dim`.
        """
        _check("GroupedCodebook", latent, self.dim)
        if self.shared:
            found = self.codebooks[0](rearrange(latent, "b (m d) h w -> (b m) d h w", m=self.groups))
            values, codes = (rearrange(part, "(b m) d h w -> b (m d) h w", m=self.groups) for part in found[:2])
            return Quantized(values, codes, rearrange(found.indices, "(b m) h w -> b m h w", m=self.groups))
        parts = zip(self.codebooks, latent.chunk(self.groups, 1), strict=True)
        values, codes, indices = zip(*(codebook(part) for codebook, part in parts), strict=True)
        return Quantized(torch.cat(values, 1), torch.cat(codes, 1), torch.stack(indices, 1))

    def lookup(self, indices: ManyIndices) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b m h w`, integers in [0, size), one for each of the `m` groups.

        Returns:
            `b d h w`, in the tables' type.

        Raises:
            TypeError: They are no integers.
            ValueError: They are not `b m h w` of as many groups; or, on the CPU, one is out of range.
        """
        _check_indices("GroupedCodebook", indices, least=self.groups, most=self.groups)
        tables: list[Any] = [self.codebooks[0 if self.shared else group] for group in range(self.groups)]
        return torch.cat([table.lookup(part) for table, part in zip(tables, indices.unbind(1), strict=True)], 1)

    def start(self, vectors: Vectors, *, seed: int = 0) -> None:
        """Starts each group's table from its part of the vectors `(n, d)`; a shared one from all parts."""
        parts = list(vectors.chunk(self.groups, 1))
        for table, part in zip(
            _able(self.codebooks, "start"), [torch.cat(parts)] if self.shared else parts, strict=True
        ):
            table.start(part, seed=seed)

    def revive(self, vectors: Vectors, dead: Bool[Tensor, "m k"], *, seed: int = 0) -> None:
        """Sets each group's dead codes to its part of vectors of a batch `(n, d)`; a shared table's to all parts.

        A code of a shared table is dead where it is in every group.
        """
        parts = list(vectors.chunk(self.groups, 1))
        if self.shared:
            parts, dead = [torch.cat(parts)], dead.all(0, keepdim=True)
        for number, (table, part) in enumerate(zip(_able(self.codebooks, "revive"), parts, strict=True)):
            table.revive(part, dead[number], seed=seed + number)


@configured
class ResidualCodebook(nn.Module):
    """Codebooks one after the other: each quantises the residual that those before it leave; the codes are summed.

    Args:
        codebook: The first table; any configured codebook. The others are built from its arguments.
        stages: Count of tables.
        shared: All stages use the one table.

    Attributes:
        size: Codes of a table.
        dim: Width of a code.

    Source: Zeghidour et al. 2021 (SoundStream), section III-C.
    """

    size: int
    dim: int

    def __init__(self, codebook: nn.Module, *, stages: int, shared: bool = False):
        super().__init__()
        first: Any = codebook
        self.count, self.shared = stages, shared
        self.size, self.dim = first.size, first.dim
        self.codebooks = _family(first, 1 if shared else stages)

    def forward(self, latent: Latent, *, depth: int | None = None) -> Quantized:
        """Exchanges each vector for a sum of codes.

        Args:
            latent: `b d h w`, with `d = dim`.
            depth: Stages that are used, from the first; None uses all. Drawing it at random is quantiser dropout.

        Returns:
            values: `b d h w`, with a straight-through gradient to the latent.
            codes: `b d h w`, the sum, with a gradient to the tables where they learn by gradient.
            indices: `b m h w`, int64, one for each stage.

        Raises:
            ValueError: The latent's width is not `dim`, or the depth is not in [1, stages].
        """
        if self._in_one_launch(latent):
            depth = self._depth(depth)
            tables: list[Any] = [self.codebooks[0 if self.shared else stage] for stage in range(depth)]
            indices = residual_code(latent, torch.stack([table.weight for table in tables]))
            codes = self.lookup(indices)
            return Quantized(straight_through(latent, codes), codes, indices)
        _, outputs = self.stages(latent, depth=depth)
        codes = torch.stack([found.codes for found in outputs]).sum(0)
        return Quantized(straight_through(latent, codes), codes, torch.stack([found.indices for found in outputs], 1))

    def stages(self, latent: Latent, *, depth: int | None = None) -> Stages:
        """Gives what each stage took and gave, for losses that want every stage."""
        _check("ResidualCodebook", latent, self.dim)
        inputs, outputs, rest = [], [], latent
        for stage in range(self._depth(depth)):
            found = self.codebooks[0 if self.shared else stage](rest)
            inputs.append(rest)
            outputs.append(found)
            rest = rest - found.codes.detach()
        return Stages(inputs, outputs)

    def lookup(self, indices: ManyIndices) -> Latent:
        """Gives the sums of codes of these indices.

        Args:
            indices: `b m h w`, integers in [0, size), one for each of the first `m` stages, from 1 to `stages`.

        Returns:
            `b d h w`, in the tables' type.

        Raises:
            TypeError: They are no integers.
            ValueError: They are not `b m h w` of 1 to `stages` stages; or, on the CPU, one is out of range.
        """
        _check_indices("ResidualCodebook", indices, least=1, most=self.count)
        tables: list[Any] = [self.codebooks[0 if self.shared else stage] for stage in range(indices.shape[1])]
        return torch.stack([table.lookup(part) for table, part in zip(tables, indices.unbind(1), strict=True)]).sum(0)

    @property
    def tables(self) -> Float[Tensor, "m k d"]:
        """The rows of every stage's table."""
        tables: list[Any] = [self.codebooks[0 if self.shared else stage] for stage in range(self.count)]
        return torch.stack([table.weight for table in tables])

    def start(self, vectors: Vectors, *, seed: int = 0) -> None:
        """Starts each stage's table from the residuals of the vectors `(n, d)` after the tables before it.

        A shared table is started once, from the vectors themselves.
        """
        rest = vectors
        for table in _able(self.codebooks, "start"):
            table.start(rest, seed=seed)
            rest = rest - lookup(rest, table.weight).codes.detach()

    def revive(self, vectors: Vectors, dead: Bool[Tensor, "m k"], *, seed: int = 0) -> None:
        """Sets each stage's dead codes to residuals of vectors of a batch `(n, d)` after the tables before it.

        A code of a shared table is dead where it is in every stage, and becomes a whole vector.
        """
        rest, dead = vectors, dead.all(0, keepdim=True) if self.shared else dead
        for number, table in enumerate(_able(self.codebooks, "revive")):
            left = rest - lookup(rest, table.weight).codes.detach()
            table.revive(rest, dead[number], seed=seed + number)
            rest = left

    def _depth(self, depth: int | None) -> int:
        depth = self.count if depth is None else depth
        if not 1 <= depth <= self.count:
            raise ValueError(f"ResidualCodebook: expected a depth in [1, {self.count}], got {depth}.")
        return depth

    def _in_one_launch(self, latent: Tensor) -> bool:
        """Says whether one kernel does all stages: for float32 tables that learn by gradient, on the CPU if named."""
        plain = latent.ndim == 4 and latent.dtype == torch.float32 and latent.shape[1] == self.dim <= 512
        if not plain or any(type(codebook) is not Codebook for codebook in self.codebooks):
            return False
        asked = wanted("residual_code", None)[0] in ("triton", None if latent.is_cuda else "triton")
        return asked and why_not_triton(latent.device.type) is None


def _family(first: Any, count: int) -> nn.ModuleList:
    return nn.ModuleList([first, *(build(first.config) for _ in range(count - 1))])


def _able(codebooks: nn.ModuleList, what: str) -> list[Any]:
    for codebook in codebooks:
        if not hasattr(codebook, what):
            raise TypeError(f"{what}: {type(codebook).__name__} takes no vectors for its codes; it has no {what}().")
    return list(codebooks)


def _check(name: str, latent: Tensor, dim: int) -> None:
    if latent.ndim != 4 or latent.shape[1] != dim:
        raise ValueError(f"{name}: expected a latent (b, {dim}, h, w), got {tuple(latent.shape)}.")


def _check_indices(name: str, indices: Tensor, *, least: int, most: int) -> None:
    """Looks at the shape alone; each table looks at the numbers that it is given."""
    if not isinstance(indices, Tensor):
        raise TypeError(f"{name}.lookup: expected indices b m h w of int64 or int32, got {type(indices).__name__}.")
    if indices.ndim != 4 or not least <= indices.shape[1] <= most:
        tables = f"m={most}" if least == most else f"m from {least} to {most}"
        raise ValueError(f"{name}.lookup: expected indices b m h w with {tables}, got {tuple(indices.shape)}.")
