"""Without a GPU the shipped kernels run in Triton's interpreter, asked for before Triton is imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
