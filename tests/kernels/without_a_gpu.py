"""Run by tests in a process without Triton's interpreter: what the compiler makes of kernels, and what a GPU would see.

    python -m tests.kernels.without_a_gpu

Prints JSON: registers, stack and local memory of each kernel at the shipped tiles, compiled for compute capability 9.0;
and the device of a chain that was walked through on tensors without values, where asking for one raises.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from codeprior.degradations import preset
from codeprior.degradations._canvas import Canvas
from codeprior.kernels import _choose
from codeprior.kernels.blur_resize import fused as blur_resize
from codeprior.kernels.jpeg import fused as jpeg
from codeprior.kernels.normal_field import fused as normal_field
from tests.fake_gpu import why_not

TYPES = {
    "pixels_ptr": "*fp32", "result_ptr": "*fp32", "kernels_ptr": "*fp32", "quantiles_ptr": "*fp32", "keys_ptr": "*i64",
}  # fmt: skip
LEVELS = ("planes_ptr", "luma_ptr", "chroma_ptr")


def resources(kernel: Any, constants: dict[str, object], *, warps: int) -> dict[str, int]:
    """What ptxas needed of an SM for a thread, in registers and bytes; a spill takes stack."""
    signature = {
        name: "constexpr" if name in constants
        else TYPES.get(name, "*u8" if name in LEVELS else "*i32" if name.endswith("_ptr") else "i32")
        for name in kernel.arg_names
    }  # fmt: skip
    source = ASTSource(kernel, signature, constants)
    options = {"num_warps": warps, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        told = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", told.stdout)}


def walked(name: str) -> dict[str, str]:
    """A chain on two CUDA tensors without values: reading one raises. Which kernels it went through."""
    seen, pick = [], _choose.pick

    def noted(op: str, impl: str | None, *, reasons: _choose.Reasons) -> str:
        found = pick(op, impl, reasons=reasons)
        seen.extend([op] if found == "triton" else [])
        return found

    _choose.why_not_triton, _choose.pick = lambda device: None, noted
    torch.Tensor.pin_memory = lambda tensor, *_: tensor  # pinning asks for a driver
    op = preset(name)
    drawn = op.sample((2, 96, 96), torch.Generator().manual_seed(0))
    values = {path: value.numpy() for path, value in drawn.values.items()}
    with FakeTensorMode(allow_non_fake_inputs=True):
        canvas = Canvas(torch.empty(2, 3, 96, 96, device="cuda"), drawn.sizes.numpy().astype("int64"))
        result = op._batch(canvas, values, "fast")
    return {"device": str(result.pixels.device), "kernels": ",".join(sorted(set(seen)))}


def main() -> None:
    # found out with the least tensor: an error of the chain itself is one
    found: dict[str, object] = {"daefr": {"skipped": reason} if (reason := why_not()) else walked("daefr")}
    for chroma in (False, True):
        constants = {"CHROMA": chroma, "BLOCKS": jpeg.BLOCKS}
        found[f"jpeg_blocks {chroma}"] = resources(jpeg.jpeg_blocks, constants, warps=jpeg.WARPS)
    found["jpeg_colours"] = resources(jpeg.jpeg_colours, {"PIXELS": jpeg.PIXELS}, warps=jpeg.WARPS)
    constants = {"PIXELS": blur_resize.PIXELS}
    found["blur_resize_taps"] = resources(blur_resize.blur_resize_taps, constants, warps=blur_resize.WARPS)
    constants = {"PIXELS": normal_field.PIXELS}
    found["normal_pixels"] = resources(normal_field.normal_pixels, constants, warps=normal_field.WARPS)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
