#!/usr/bin/env bash
# One to four machines that may come and go; run it on each. Whenever one joins or leaves, all go on from the newest
# checkpoint, which must lie on a disk that all of them see. The batch stays the recipe's: give it a multiple of every
# possible number of GPUs.
#   JOB=hq1 HEAD=node0 STAGE=hq_codebook FACES=/data/ffhq OUT=/shared/runs/hq_codebook examples/daefr/launch/elastic.sh
set -euo pipefail
: "${JOB:?a name that all machines share}" "${HEAD:?the machine where they meet}"
: "${STAGE:?one of the recipes, such as hq_codebook}" "${OUT:?folder of the run}"
: "${FACES:?folder of faces, shards or raw pixels}"
exec torchrun --nnodes="${NODES:-1:4}" --nproc-per-node="${GPUS:-8}" --max-restarts="${RESTARTS:-10}" \
  --rdzv-backend=c10d --rdzv-id="$JOB" --rdzv-endpoint="$HEAD:${PORT:-29400}" \
  -m codeprior.recipes.daefr.train "$STAGE" --faces "$FACES" --out "$OUT" \
  --workers "${WORKERS:-8}" "$@"
