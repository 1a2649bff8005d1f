"""Layouts: whose names stand in other people's checkpoints, one file an origin; pure functions of keys and shapes.

`codeformer`, `vqfr` and `restoreformer` name the sizes and our tensors; the recipes of those families build the modules
and fill them. `ladder` is what all of them share. DAEFR's own file is `codeprior.weights.daefr`.
"""
