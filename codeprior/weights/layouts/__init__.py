"""Layouts: whose names stand in other people's checkpoints, one file per origin; pure functions of keys and shapes.

A new layout is a file here that begins from `taming`, the names that most VQGANs of this kind have, and a `Layout` in
the `FAMILY` of the package under `examples/` whose model it fills; `codeprior convert` then finds it.

`codeformer`, `vqfr`, `restoreformer` and `gpen` name the sizes and our tensors; the recipes of those families build the
modules and fill them. `ladder` is what all of them share. DAEFR's own file is `codeprior.weights.daefr`.
"""
