#!/bin/bash
# Encodes a folder by 16 tasks, each one part of it, then merges the parts:
#   PHOTOS=/data/photos RUN=/runs/photos OUT=/data/photos.idx sbatch examples/slurm_encode.sh
# A part that was stopped goes on where it was: submit the same line again.
#SBATCH --job-name=encode
#SBATCH --array=1-16
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=04:00:00
set -euo pipefail
: "${PHOTOS:?the folder}" "${RUN:?the workdir of a trained run}" "${OUT:?the index to be made}"
# Of an array of 1-16, as above.
parts=${SLURM_ARRAY_TASK_COUNT:-1} part=${SLURM_ARRAY_TASK_ID:-1}

hybridhash encode "$PHOTOS" --workdir="$RUN" --index="$OUT.parts/$part.idx" \
  --shard="$part/$parts" --num_workers="${SLURM_CPUS_PER_TASK:-1}"

# Whoever is done last merges. A new index appears whole or not at all, so two may try.
touch "$OUT.parts/$part.done"
if [ "$(ls "$OUT.parts"/*.done | wc -l)" -eq "$parts" ]; then
  hybridhash index merge "$OUT.parts"/*.idx --out="$OUT"
fi
