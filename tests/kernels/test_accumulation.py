"""The check of a device's accumulation runs the product that the kernel takes, and sees a product that is worse."""

import torch

from benchmarks import accumulation

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_the_bound_holds_on_vectors_made_to_lose_bits():
    for name, (rows, codes) in accumulation.adversaries(64).items():
        share = accumulation.used(rows.to(DEVICE), codes.to(DEVICE))
        assert 0 <= share <= 1, name


def test_a_product_of_fewer_bits_is_seen(monkeypatch):
    class Coarse:
        def __getitem__(self, grid):
            return lambda rows, codes, out, **sizes: out.copy_((rows.float() @ codes.float().T).bfloat16())

    monkeypatch.setattr(accumulation, "tile_product", Coarse())
    rows, codes = accumulation.adversaries(64)["all of one sign"]
    assert accumulation.used(rows, codes) > 1
