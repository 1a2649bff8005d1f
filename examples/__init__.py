"""Recipes: whole models written from the library's blocks, imported as `codeprior.recipes`."""

if __name__ == "examples":  # in a clone, under the folder's name: one module must not be there twice
    import warnings

    from codeprior._renamed import stand_for

    warnings.warn("examples is imported as codeprior.recipes; use that name", DeprecationWarning, stacklevel=2)
    stand_for("examples", "codeprior.recipes")
