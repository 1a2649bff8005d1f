"""What the compiler makes of the kernels that ship: instructions a score, spills, registers, memory, expected time.

    python -m benchmarks.device.count                            # the lookup at its shipped tiles, for an H100
    python -m benchmarks.device.count --capability 80 --width 256 --rows 65536
    python -m benchmarks.device.count --kernels all --json counts.json

No GPU is needed: the kernels are compiled for one and their machine code is read. A *score* is a pair of a row and a
code; instructions a score are those of the innermost loop around the tensor cores' products, without these, over the
scores of a lane. Spills are instructions that write registers to memory or read them back, before, in and after that
loop.
Must run without TRITON_INTERPRET in the environment.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from codeprior.kernels.nearest_code.certified import certified_lookup
from codeprior.kernels.nearest_code.doubtful import settle_rows
from codeprior.kernels.nearest_code.fused import Tiles, choose_tiles
from codeprior.kernels.nearest_code.prepared import table_codes, table_range

SPILL = re.compile(r"\b(?:STL|LDL)\b")
PRODUCT = re.compile(r"\b(?:HGMMA|HMMA)\b")
TYPES = {
    "codes": "fp32", "chat": "fp16", "half": "fp32", "centre": "fp32", "constants": "fp32", "indices": "i64",
    "distances": "fp32", "counts": "i64", "partial": "fp32", "partial_code": "i32", "tickets": "i32", "heads": "i32",
    "list": "i32", "longs": "i64", "words": "i32",
}  # fmt: skip


class Shape(NamedTuple):
    """A problem; `layout` is "rows" (n, d) or "images" (b, d, h, w)."""

    rows: int
    codes: int
    width: int
    dtype: str = "fp32"
    layout: str = "rows"


def lookup_facts(shape: Shape, capability: int, *, tiles: Tiles | None = None, write: int = 1) -> dict[str, Any]:
    """Compiles `certified_lookup` for a problem, and gives what it needs."""
    tiles = tiles or choose_tiles(shape.rows, shape.codes, shape.width)
    blocks = -(-shape.codes // tiles.codes)
    split = min(tiles.split, blocks)
    blocks = -(-blocks // split)
    sizes = {
        "D": shape.width, "DP": max(16, 1 << (shape.width - 1).bit_length()), "BN": tiles.rows, "BK": tiles.codes,
        "GROUP": tiles.group, "BITS": max(1, (blocks - 1).bit_length()), "PARTS": 64, "SPLIT": split > 1, "EXACT": True,
        "WRITE": write, "UNIT": 1 if shape.layout == "rows" else 2, "WIDE": True,
    }  # fmt: skip
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    found = facts(certified_lookup, sizes, capability, options=options, dtype=shape.dtype)
    lanes = 32 * tiles.warps
    scores = tiles.rows * tiles.codes / lanes
    found |= {"shape": shape, "tiles": tiles, "scores_a_lane": scores}
    found["instructions_a_score"] = round((found["loop"]["all"] - found["loop"]["products"]) / scores, 2)
    return found


def settle_facts(shape: Shape, capability: int) -> dict[str, Any]:
    """Compiles `settle_rows` for a problem, and gives what it needs."""
    tiles = choose_tiles(shape.rows, shape.codes, shape.width)
    sizes = {
        "D": shape.width, "DE": 1 << max(shape.width - 1, 0).bit_length(), "BN": 32, "BC": 64, "BK": tiles.codes,
        "GROUP": tiles.group, "SPLIT": tiles.split > 1, "WRITE": 1, "UNIT": 1 if shape.layout == "rows" else 2,
    }  # fmt: skip
    options = {"num_warps": 4, "enable_fp_fusion": False}
    return facts(settle_rows, sizes, capability, options=options, dtype=shape.dtype) | {"shape": shape}


def prepare_facts(shape: Shape, capability: int) -> list[dict[str, Any]]:
    """Compiles what prepares the table."""
    width = max(16, 1 << (shape.width - 1).bit_length())
    sizes = {"D": shape.width, "DP": width, "BC": max(1, min(32, 4096 // width)), "SAMPLE": 64, "PARTS": 64}
    first = facts(table_range, sizes, capability, options={"num_warps": 4})
    sizes.pop("SAMPLE")
    second = facts(table_codes, sizes, capability, options={"num_warps": 4, "enable_fp_fusion": False})
    return [first | {"shape": shape}, second | {"shape": shape}]


def facts(
    kernel: Any, sizes: dict[str, Any], capability: int, *, options: dict[str, Any], dtype: str = "fp32",
    types: dict[str, str] = TYPES,
) -> dict[str, Any]:  # fmt: skip
    """Compiles a kernel, and reads registers, spills, shared memory and the instructions of its innermost loop.

    Args:
        kernel: A Triton function.
        sizes: Its constants by name; the other arguments are pointers where their name ends so, else int32.
        capability: 90 for compute capability 9.0.
        options: Warps, stages, and what else the compiler is told.
        dtype: Element type of pointers that `types` does not name.
        types: Element types by the pointers' names without their ending.
    """
    signature, constants, aligned = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in sizes:
            signature[name], constants[name] = "constexpr", sizes[name]
        elif name.endswith("_ptr"):
            signature[name] = "*" + types.get(name.removesuffix("_ptr"), dtype)
            aligned[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    start = time.perf_counter()
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    seconds = time.perf_counter() - start
    usage, listing = _dumped(built.asm["cubin"])
    return {
        "kernel": kernel.__name__, "capability": capability, "dtype": dtype, "seconds": round(seconds, 1),
        "registers": usage["REG"], "shared": built.metadata.shared, "triton": triton.__version__,
        "products": sorted(set(PRODUCT.findall(listing))), **loop_of(listing),
    }  # fmt: skip


def loop_of(listing: str) -> dict[str, Any]:
    """Instructions and spills of machine code around its innermost loop with products, or of all of it."""
    lines = [(int(place, 16), text) for place, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", listing)]
    spills = [place for place, text in lines if SPILL.search(text)]
    at = [place for place, text in lines if PRODUCT.search(text)]
    loops = [(int(target, 16), place) for place, text in lines for target in re.findall(r"BRA.* 0x([0-9a-f]+)", text)]
    around = [(start, stop) for start, stop in loops if any(start <= place <= stop for place in at)]
    found: dict[str, Any] = {"instructions": len(lines), "spills": [len(spills), 0, 0]}
    if not around:
        return found | {"loop": {"all": 0, "products": 0}}
    start, stop = min(around, key=lambda loop: loop[1] - loop[0])
    inside = [text for place, text in lines if start <= place <= stop]
    names = [re.sub(r"^@!?\w+\s+", "", text).split()[0].split(".")[0] for text in inside]
    common = sorted({name: names.count(name) for name in set(names)}.items(), key=lambda pair: -pair[1])
    before, after = sum(place < start for place in spills), sum(place > stop for place in spills)
    found["spills"] = [before, len(spills) - before - after, after]
    found["before"] = sum(place < start for place, _ in lines)
    return found | {"loop": {"all": len(inside), "products": sum(map(bool, map(PRODUCT.search, inside))),
                             "common": dict(common[:12])}}  # fmt: skip


def _dumped(binary: bytes) -> tuple[dict[str, int], str]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        usage, listing = (
            subprocess.run([tool, option, path], capture_output=True, text=True, check=True).stdout
            for option in ("-res-usage", "-sass")
        )
    line = next(line for line in usage.splitlines() if "REG:" in line)
    return {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}, listing


class Card(NamedTuple):
    """Rates of a GPU, from its maker's tables."""

    multiprocessors: int
    clock: float
    """GHz."""
    products: int
    """float16 products with an addition, a clock of a multiprocessor, dense."""
    memory: float
    """TB/s, as measured by copies."""
    shared: int
    """Bytes that a program may have."""


CARDS = {
    "H100": Card(132, 1.755, 2048, 3.0, 227 * 1024),
    "H200": Card(132, 1.755, 2048, 4.3, 227 * 1024),
    "A100": Card(108, 1.41, 1024, 1.7, 163 * 1024),
    "RTX 4090": Card(128, 2.52, 512, 0.95, 99 * 1024),
}
_LAUNCH = 2.0  # microseconds between two kernels of a captured graph
_SHARED_BYTES = 128  # a clock of a multiprocessor


def expected(found: dict[str, Any], card: Card) -> dict[str, float]:
    """Gives the time that the counts of a lookup let one expect, by part, in microseconds.

    One program a multiprocessor, four instructions a clock, products and other instructions one after the other, as two
    barriers a tile force them; nothing hides a wait for memory. What comes after the loop is counted once, though lists
    are written in rounds. The settling kernel's share is one launch: what it has to do depends on the data.
    """
    shape, tiles = Shape(*found["shape"]), Tiles(*found["tiles"])
    padded, itemsize = max(16, 1 << (shape.width - 1).bit_length()), 4 if shape.dtype == "fp32" else 2
    blocks, parts = -(-shape.codes // tiles.codes), max(1, min(tiles.split, -(-shape.codes // tiles.codes)))
    waves = -(-(-(-shape.rows // tiles.rows) * parts) // card.multiprocessors)
    steps = -(-blocks // parts)
    clocks = 1e3 * card.clock  # a microsecond
    products = steps * tiles.rows * tiles.codes * padded / card.products
    other = steps * (found["loop"]["all"] - found["loop"]["products"]) * tiles.warps / 4
    # a tile of the table is written once and read by each group of four warps; the rows are read again for each tile
    moved = 2 * padded * (tiles.codes * (1 + tiles.warps / 4) + tiles.rows) * steps / _SHARED_BYTES
    outside = found["instructions"] - found["loop"]["all"]
    memory = itemsize * shape.width * 2 * shape.rows / (1e6 * card.memory)
    loop = waves * max(products + other, moved) / clocks
    before = waves * found["before"] * tiles.warps / 4 / clocks
    after = waves * (outside - found["before"]) * tiles.warps / 4 / clocks
    sums = {"memory": memory, "products": waves * products / clocks, "loop": loop, "before": before, "after": after}
    sums |= {"launches": 4 * _LAUNCH}
    return {name: round(value, 1) for name, value in sums.items()} | {
        "sum": round(max(memory, loop + before + after) + 4 * _LAUNCH, 1)
    }


GOALS = (
    (Shape(262144, 1024, 256), 320.0),
    (Shape(1048576, 8192, 8), 1200.0),
    (Shape(65536, 16384, 256), 1250.0),
    (Shape(256, 1024, 256), 25.0),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capability", type=int, default=90, help="90 for compute capability 9.0")
    parser.add_argument("--card", choices=CARDS, default="H100", help="whose shared memory and rates are taken")
    parser.add_argument("--rows", type=int, help="with --codes and --width: one problem in place of the goals")
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--layout", choices=("rows", "images"), default="rows")
    parser.add_argument("--tiles", help="rows,codes,group,warps,stages,split in place of those that ship")
    parser.add_argument("--kernels", choices=("lookup", "all"), default="lookup")
    parser.add_argument("--json", type=Path, help="write the counts here")
    given = parser.parse_args()
    card, rows = CARDS[given.card], []
    shapes = GOALS if given.rows is None else (
        (Shape(given.rows, given.codes, given.width, given.dtype, given.layout), None),
    )  # fmt: skip
    for shape, goal in shapes:
        tiles = choose_tiles(shape.rows, shape.codes, shape.width, room=card.shared - 1024)
        tiles = Tiles(*map(int, given.tiles.split(","))) if given.tiles else tiles
        found = lookup_facts(shape, given.capability, tiles=tiles)
        found |= {"card": given.card, "expected_us": expected(found, card), "goal_us": goal}
        rows.append(found)
        print(_told(found), flush=True)
        for part, micros in found["expected_us"].items():
            print(f"    {part:9s} {micros:8.1f} us" + (f"   goal {goal:.0f}" if part == "sum" and goal else ""))
    if given.kernels == "all":
        shape = shapes[0][0]
        others = [settle_facts(shape, given.capability), *prepare_facts(shape, given.capability)]
        others += contrastive_facts(given.capability)
        for found in others:
            rows.append(found)
            print(_told(found), flush=True)
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def contrastive_facts(capability: int) -> list[dict[str, Any]]:
    """Compiles both kernels of the symmetric cross-entropy at their widest."""
    from codeprior.kernels.contrastive import fused

    found = []
    for width, dtype in ((256, "fp32"), (512, "bf16")):
        types = dict.fromkeys(("left", "right"), dtype)
        types |= dict.fromkeys(("scale", "sums", "diagonal", "other_sums", "out", "slope"), "fp32")
        sizes = fused.sizes_of(width)
        warps = sizes.pop("num_warps")
        for kernel in (fused.row_sums, fused.row_gradients):
            facts_of = facts(kernel, sizes, capability, options={"num_warps": warps}, dtype=dtype, types=types)
            found.append(facts_of | {"width": width})
    return found


def _told(found: dict[str, Any]) -> str:
    size = "x".join(map(str, found["shape"][:3])) if "shape" in found else f"width {found['width']}"
    text = f"{found['kernel']:17s} {size:18s} {found['dtype']}  {found['registers']} registers, "
    text += f"spills {found['spills']}, {found['shared'] / 1024:.0f} KB shared"
    if "instructions_a_score" in found:
        text += f", tile {tuple(found['tiles'])}, {found['instructions_a_score']} instructions a score"
    return text + f"  (Triton {found['triton']}, {found['seconds']} s)"


if __name__ == "__main__":
    sys.exit(main())
