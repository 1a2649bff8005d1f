#!/usr/bin/env bash
# One machine, all its GPUs. A rank that dies restarts all of them from the newest checkpoint, three times at most.
# WORKERS processes a GPU decode pictures; pictures that half the memory does not hold once a GPU are read from the disk.
#   STAGE=hq_codebook FACES=/data/ffhq OUT=/runs/hq_codebook examples/daefr/launch/one_node.sh [further options of train]
set -euo pipefail
: "${STAGE:?one of the recipes, such as hq_codebook}" "${OUT:?folder of the run}"
: "${FACES:?folder of faces, shards or raw pixels}"
exec torchrun --standalone --nproc-per-node="${GPUS:-gpu}" --max-restarts="${RESTARTS:-3}" \
  -m codeprior.recipes.daefr.train "$STAGE" --faces "$FACES" --out "$OUT" \
  --workers "${WORKERS:-8}" "$@"
