"""Compiled loops work where their result cannot be kept: a read-only installation without a home."""

from numba.core import caching

from codeprior.degradations._native import exact


def test_without_a_place_for_the_cache_a_function_is_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    @exact
    def doubled(value):
        return 2 * value

    assert doubled(21) == 42
