"""Compiles the lookup's kernels as they ship for GPUs that are not here, and reads off registers and spills.

    python -m tests.kernels.gpu_code 90 256 65536 4     # capability, width of a code, rows, kernels

Without TRITON_INTERPRET in the environment. Prints a line of JSON for each kernel: `spills` counts the instructions
that write to or read from local memory, before, in and after the loop over the tiles of codes.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from codeprior.kernels.nearest_code.certified import certified_lookup, residual_lookup
from codeprior.kernels.nearest_code.fused import choose_tiles

CODES = 1024
SPILL = re.compile(r"\b(?:STL|LDL)\b")
POINTERS = {"rest": "fp32", "codes": "fp32", "chat": "fp16", "half": "fp32", "centre": "fp32", "constants": "fp32",
            "indices": "i64", "distances": "fp32", "counts": "i64", "partial": "fp64", "partial_index": "i32",
            "tickets": "i32", "told": "i64"}  # fmt: skip


def main(capability: int, width: int, rows: int, kernels: int) -> None:
    tiles = choose_tiles(rows, CODES, width)
    split = min(tiles.split, CODES // tiles.codes)
    sizes = {
        "DP": max(16, 1 << (width - 1).bit_length()), "BN": tiles.rows, "BK": tiles.codes, "GROUP": tiles.group,
        "BITS": max(1, (CODES // split // tiles.codes - 1).bit_length()), "SPLIT": split, "EXACT": True,
        "WRITE": True, "TELL": False,
    }  # fmt: skip
    # rows next to each other, channels first, half precision
    ways = (
        (certified_lookup, ("stride_d", "out_d"), "fp32"),
        (certified_lookup, ("stride_s", "out_s"), "fp32"),
        (certified_lookup, ("stride_d", "out_d"), "bf16"),
        (residual_lookup, (), "fp32"),
    )
    for kernel, one, dtype in ways[:kernels]:
        print(json.dumps(facts(kernel, capability, tiles, sizes, one=one, dtype=dtype)), flush=True)


def facts(kernel, capability: int, tiles, sizes: dict, *, one: tuple[str, ...], dtype: str) -> dict:
    signature, constants, aligned = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in sizes or name in one:
            signature[name], constants[name] = "constexpr", sizes.get(name, 1)
        elif name.endswith("_ptr"):
            signature[name] = "*" + POINTERS.get(name.removesuffix("_ptr"), dtype)
            aligned[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "i32"
            if name not in ("zero", "stages"):
                aligned[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages, "enable_fp_fusion": False}
    start = time.perf_counter()
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    seconds = time.perf_counter() - start
    usage, listing = _dumped(built.asm["cubin"])
    products = [word for word in ("HGMMA", "HMMA") if word in listing]
    return {
        "kernel": kernel.__name__, "dtype": dtype, "unit_stride": list(one), "tiles": tiles, "seconds": seconds,
        "registers": usage["REG"], "spills": spills_around_loop(listing),
        "shared": built.metadata.shared, "products": products,
    }  # fmt: skip


def spills_around_loop(listing: str) -> list[int]:
    """Spills before, in and after the innermost loop around the tensor cores' products, which is run for every tile."""
    lines = [(int(place, 16), text) for place, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", listing)]
    products = [place for place, text in lines if "HGMMA" in text or "HMMA" in text]
    loops = [(int(target, 16), place) for place, text in lines for target in re.findall(r"BRA.* 0x([0-9a-f]+)", text)]
    around = [(start, stop) for start, stop in loops if any(start <= at <= stop for at in products)]
    start, stop = min(around, key=lambda loop: loop[1] - loop[0])
    spills = [place for place, text in lines if SPILL.search(text)]
    before, after = sum(at < start for at in spills), sum(at > stop for at in spills)
    return [before, len(spills) - before - after, after]


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


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
