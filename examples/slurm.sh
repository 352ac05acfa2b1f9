#!/bin/bash
# Two machines with eight GPUs each under SLURM:  sbatch examples/slurm.sh
# One launcher per machine starts a process per GPU; they meet on the first machine of the allocation. A lost process or
# machine ends the training cleanly, the launchers start it again, and it goes on from its last checkpoint, which lies
# where all machines see it. SLURM starts the job again, under the same number, after it has lost a machine or was put
# off for another job (--requeue).
#
# A training longer than the time limit is told to end two minutes before it, keeps a checkpoint, and goes on in the
# next job that is given the same folder: one of its own name, not of the job's number. Three jobs in a row, each of
# which begins when the one before has ended:
#   for part in 1 2 3; do KEPT=runs/mine sbatch --time=24:00:00 --dependency=singleton examples/slurm.sh; done
#SBATCH --job-name=autotrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

TASK=${TASK:-examples/task.py}
KEPT=${KEPT:-runs/$SLURM_JOB_ID}
GPUS=${GPUS:-${SLURM_GPUS_ON_NODE:-8}}
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# From SLURM 22.05 on srun does not take the cores per task from sbatch, and would leave all processes one core.
srun ${SLURM_CPUS_PER_TASK:+"--cpus-per-task=$SLURM_CPUS_PER_TASK"} torchrun \
  --nnodes="$SLURM_JOB_NUM_NODES" \
  --nproc-per-node="$GPUS" \
  --max-restarts=3 \
  --rdzv-backend=c10d \
  --rdzv-id="$SLURM_JOB_ID" \
  --rdzv-endpoint="$FIRST:29400" \
  -m autotrain fit "$TASK" --checkpoints "$KEPT" --resume auto "$@"
