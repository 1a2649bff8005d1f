"""The Triton lookup as registered ops: picks the tiles, prepares the table, screens and certifies, settles the rest.

Four launches of fixed grids, none of which the host waits for. The ops are opaque to torch.compile: a kernel that the
compiler takes apart may lose `enable_fp_fusion=False`, and a fused multiply-add would change the order of equal float64
distances.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from codeprior.kernels._device import launching
from codeprior.kernels.nearest_code.ops import fake_indices, fake_lookup, gradients, remember

_FEW = 4096  # rows up to which the codes are split over programs
_PROGRAMS = 528  # of the kernel that settles: four to each multiprocessor of an H100
_SHARED = 98 * 1024  # bytes that a program may have on every GPU from compute capability 8.0 on, less 1 KiB


class Tiles(NamedTuple):
    """How the work is cut up; the indices do not depend on it."""

    rows: int
    codes: int
    group: int
    warps: int
    stages: int
    split: int


@torch.library.custom_op("codeprior::nearest_code_triton", mutates_args=())
def nearest_code_triton(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> Tensor:
    """Indices `(b, s)` for rows `(b, s, d)`."""
    return launch(rows, codebook, exact=exact, write=False)[2]


@torch.library.custom_op("codeprior::lookup_triton", mutates_args=())
def lookup_triton(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes `(b, s, d)`, squared distances `(b, s)`, indices `(b, s)` and counts `(k,)` for rows `(b, s, d)`."""
    return launch(rows, codebook, exact=exact)


nearest_code_triton.register_fake(fake_indices)
lookup_triton.register_fake(fake_lookup)
lookup_triton.register_autograd(gradients, setup_context=remember)


def launch(
    rows: Tensor,
    codebook: Tensor,
    *,
    exact: bool = True,
    write: bool = True,
    tiles: Tiles | None = None,
    counters: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs the kernels.

    Args:
        rows: `(b, s, d)`, float32 or half precision, any strides, d at most 512.
        codebook: `(k, d)`.
        exact: Certify and settle; otherwise the float16 winner is taken.
        write: Fill in codes, distances and counts as well; they are empty otherwise.
        tiles: How to cut up the work; None decides by the sizes.
        counters: Two int32 that are set to how many rows were compared with a few codes in float64, and how many with
            parts of the table or all of it.

    Returns:
        codes `(b, s, d)` in the rows' layout, distances `(b, s)`, indices `(b, s)`, counts `(k,)`.
    """
    from codeprior.kernels.nearest_code.prepared import prepare

    codebook = codebook.contiguous()
    batch, length, width = rows.shape
    size, count = len(codebook), batch * length
    shapes = fake_lookup(rows, codebook, "triton", exact)
    codes, distances, indices, _ = shapes if write else (rows.new_empty(0), rows.new_empty(0), *shapes[2:])
    counts = torch.empty(size if write else 0, dtype=torch.int64, device=rows.device)
    if count == 0:
        return codes, distances, indices, counts.zero_()
    tiles = tiles or choose_tiles(count, size, width, device=rows.device)
    work = Work(count, size, width, tiles, rows.device)
    with launching(rows):
        table = prepare(codebook, width=work.padded, zeroed=(counts, work.words))
        work.run(rows, codebook, table, (indices, codes, distances, counts), write=int(write), exact=exact)
    if counters is not None:
        counters.copy_(work.words[:2])
    return codes, distances, indices, counts


class Work:
    """The buffers of a call and how it is cut up; several stages may use them one after the other."""

    def __init__(self, rows: int, codes: int, width: int, tiles: Tiles, device: torch.device):
        self.rows, self.codes, self.width, self.tiles = rows, codes, width, tiles
        self.padded = max(16, _power_of_two(width))
        # parts are whole tiles, and none of them is empty
        blocks = _ceil(codes, tiles.codes)
        self.chunk = _ceil(blocks, min(tiles.split, blocks)) * tiles.codes
        self.parts, self.programs = _ceil(codes, self.chunk), _ceil(rows, tiles.rows)
        split = rows * self.parts if self.parts > 1 else 0
        self.partial = torch.empty(split, device=device)
        self.partial_codes = torch.empty(split, dtype=torch.int32, device=device)
        # where codes are short, lists with room for every row would be larger than the result
        self.few = rows if rows <= _FEW else max(_FEW, rows // (4 if width <= 64 else 8))
        self.crowds = rows if rows <= _FEW else max(_FEW, rows // 32)
        # the lengths of both lists, and from the fourth word on the tickets; zero at first
        self.words = torch.empty(4 + self.programs, dtype=torch.int32, device=device)
        self.list = torch.empty(8 * (self.few + self.crowds), dtype=torch.int32, device=device)

    def run(
        self, rows: Tensor, codebook: Tensor, table: Any, out: tuple[Tensor, ...], *, write: int, exact: bool
    ) -> None:
        """Launches both kernels; `write` is 0 for indices alone, 1 for all, 2 to subtract the codes from the rows."""
        from codeprior.kernels.nearest_code.certified import certified_lookup
        from codeprior.kernels.nearest_code.doubtful import settle_rows

        # a launch takes more than the functions' own arguments
        screen: Any = certified_lookup
        rest: Any = settle_rows
        indices, codes, distances, counts = out
        tiles, split = self.tiles, self.parts > 1
        strides, onto = rows.stride(), codes.stride() if write == 1 else rows.stride()
        unit = 1 if strides[2] == onto[2] == 1 else 2 if strides[1] == onto[1] == 1 else 0
        outer_strides = (strides[1], onto[1]) if unit == 1 else (rows.shape[1], strides[2], onto[2])
        wide = unit > 0 and not any(number % 16 for number in (strides[0], onto[0], *outer_strides))
        blocks = self.chunk // tiles.codes
        heads = self.words
        screen[(self.programs, self.parts)](
            rows, codebook, table.codes, table.half, table.centre, table.constants,
            indices, codes, distances, counts, self.partial, self.partial_codes, heads[4:], heads, self.list,
            self.rows, rows.shape[1], *strides, *onto, self.codes, self.chunk, self.parts, self.few, self.crowds, 0,
            D=self.width, DP=self.padded, BN=tiles.rows, BK=tiles.codes, GROUP=tiles.group,
            BITS=max(1, (blocks - 1).bit_length()), PARTS=table.constants.shape[1], SPLIT=split, EXACT=exact,
            WRITE=write, UNIT=unit, WIDE=wide, num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
        # also where nothing is certified: rows and codes that are not finite, or of extreme scales, are settled there
        rest[(min(_PROGRAMS, _ceil(self.rows, 8)),)](
            heads, self.list, rows, codebook, indices, codes, distances, counts,
            self.rows, rows.shape[1], *strides, *onto, self.codes, self.chunk, _ceil(self.codes, tiles.codes),
            self.few, self.crowds,
            D=self.width, DE=_power_of_two(self.width), BN=32, BC=64, BK=tiles.codes, GROUP=tiles.group, SPLIT=split,
            WRITE=write, UNIT=unit, num_warps=4,
            # a fused multiply-add would change the order of equal float64 distances
            enable_fp_fusion=False,
        )  # fmt: skip


def choose_tiles(
    rows: int, codes: int, width: int, *, device: torch.device | None = None, room: int | None = None
) -> Tiles:
    """Gives the tiles for these sizes, from counts of instructions and registers; not tuned on a device.

    Args:
        rows: Count of rows.
        codes: Count of codes.
        width: Width of a code.
        device: The device whose shared memory must suffice; None and the CPU stand for the cards that have least.
        room: Bytes of shared memory, in place of a device's.
    """
    padded, room = max(16, _power_of_two(width)), room or _shared(device)
    # larger tiles first; for each width the last fits every card
    ways = next(ways for most, ways in _WAYS if padded <= most)
    if rows <= _FEW:
        ways = [way._replace(rows=64, codes=min(64, way.codes), group=min(8, way.group), warps=4) for way in ways]
    tiles = next((way for way in ways if 2 * padded * (way.rows + way.stages * way.codes) <= room), ways[-1])
    if rows <= _FEW:
        return tiles._replace(split=max(1, min(32, 128 // _ceil(rows, 64), codes // tiles.codes)))
    return tiles


_WAYS = (
    (16, [Tiles(128, 256, 16, 8, 3, 1)]),
    # wider tiles of codes spill in the loop
    (64, [Tiles(128, 128, 8, 8, 2, 1)]),
    (128, [Tiles(128, 128, 4, 8, 2, 1)]),
    (256, [Tiles(128, 128, 4, 8, 2, 1), Tiles(128, 64, 4, 8, 2, 1), Tiles(64, 64, 4, 4, 2, 1)]),
    (512, [Tiles(64, 64, 4, 8, 2, 1), Tiles(64, 64, 4, 8, 1, 1), Tiles(64, 32, 4, 4, 1, 1)]),
)


def _shared(device: torch.device | None) -> int:
    if device is None or device.type != "cuda":
        return _SHARED
    properties = torch.cuda.get_device_properties(device)
    # only newer versions of torch give the most that a program may have; 1 KiB is kept for what is beside the tiles
    return getattr(properties, "shared_memory_per_block_optin", _SHARED) - 1024


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _power_of_two(width: int) -> int:
    return 1 << max(width - 1, 0).bit_length()
