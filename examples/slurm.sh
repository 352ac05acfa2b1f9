#!/bin/bash
# Two machines with eight GPUs each under SLURM:  sbatch examples/slurm.sh
# One launcher per machine starts a process per GPU; they meet on the first machine of the allocation. A lost process or
# machine ends the training cleanly, the launchers start it again, and it goes on from its last checkpoint, which lies
# where all machines see it.
#SBATCH --job-name=autotrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --signal=TERM@120

set -euo pipefail

TASK=${TASK:-examples/task.py}
KEPT=${KEPT:-runs/$SLURM_JOB_ID}
GPUS=${GPUS:-${SLURM_GPUS_ON_NODE:-8}}
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun torchrun \
  --nnodes="$SLURM_JOB_NUM_NODES" \
  --nproc-per-node="$GPUS" \
  --max-restarts=3 \
  --rdzv-backend=c10d \
  --rdzv-id="$SLURM_JOB_ID" \
  --rdzv-endpoint="$FIRST:29400" \
  -m autotrain fit "$TASK" --checkpoints "$KEPT" --resume auto "$@"
