"""The aliases of the tensor alphabet are checked here, and cost nothing anywhere else."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("beartype", reason="the extra `dev` brings the checker")
ROOT = Path(__file__).resolve().parents[1]
HOOK = """
from jaxtyping import install_import_hook
with install_import_hook("codeprior", "beartype.beartype"):
    import codeprior.encoders, codeprior.decoders, codeprior.fusion, codeprior.predictors, codeprior.codebooks
    import codeprior.prior, codeprior.images
import torch
import codeprior as cp
from jaxtyping import TypeCheckError
"""
PARTS = """
small = dict(channels=8, multipliers=(1, 2), blocks=1, groups=4)
model = cp.VQGAN(cp.VQGANEncoder(16, **small), cp.Codebook(32, 16), cp.VQGANDecoder(16, **small))
"""


WALK = """
fuse = cp.CrossAttentionFusion(16, heads=2, groups=4)
predict = cp.CodePredictor(16, 32, grid=(6, 4), width=16, layers=1, heads=2, hidden=16)
image = cp.to_signed(torch.rand(2, 3, 12, 8))
made = model(image)
logits = predict(fuse(made.latent, guide=made.quantized.values))
print(*model.prior().decode_indices(logits.argmax(-1)).shape, *cp.to_unit(made.image).shape)
"""
WRONG = (
    "model(torch.zeros(3, 8, 8))",
    "model(torch.zeros(1, 4, 8, 8))",
    "model(torch.zeros(1, 3, 8, 8, dtype=torch.int32))",
    "model.prior().decode(torch.zeros(1, 2, 2))",
)


def test_the_walk_keeps_its_annotations_and_wrong_shapes_are_named():
    # one interpreter: the checker is turned on before the rooms are first imported, and torch is slow to load
    calls = "".join(f"\ntry: {call}\nexcept TypeCheckError: print('named')\n" for call in WRONG)
    command = [sys.executable, "-c", HOOK + PARTS + WALK + calls]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.split("\n")[:-1] == ["2 3 12 8 2 3 12 8", *["named"] * len(WRONG)]
