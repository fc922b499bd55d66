#!/bin/bash
# Encodes a folder by 16 tasks, each one part of it, and merges the parts once all are done:
#   export PHOTOS=/data/photos RUN=/runs/photos OUT=/data/photos.idx
#   job=$(sbatch --parsable examples/slurm_encode.sh)
#   sbatch --dependency=afterok:$job --array=1 --gpus-per-task=0 examples/slurm_encode.sh merge
# A task that was stopped goes on where it was: submit its number again, as --array=3.
#SBATCH --job-name=encode
#SBATCH --array=1-16
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=04:00:00
set -euo pipefail
: "${PHOTOS:?the folder}" "${RUN:?the workdir of a trained run}" "${OUT:?the index to be made}"
parts=${PARTS:-16} # as many as --array says above

if [ "${1:-}" = merge ]; then
  exec hybridhash index merge "$OUT".parts/*.idx --out="$OUT"
fi
mkdir -p "$OUT.parts"
part=$SLURM_ARRAY_TASK_ID
exec hybridhash encode "$PHOTOS" --workdir="$RUN" --index="$OUT.parts/$part.idx" \
  --shard="$part/$parts" --num_workers="$SLURM_CPUS_PER_TASK"
