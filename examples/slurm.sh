#!/bin/bash
# Two machines with eight GPUs each. Start it, and after a preemption start it again, by: sbatch examples/slurm.sh
# SLURM sends SIGTERM before the time is over; all processes then write a checkpoint together and end with 143.
#SBATCH --job-name=pretrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue

# DATA, OUT and the cache lie where all machines see them.
export TACIT_CACHE="${TACIT_CACHE:-$HOME/tacit-cache}" OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
srun --kill-on-bad-exit=1 python -m tacit pretrain "${DATA:?}" --task simclr --budget 100epochs --out "${OUT:?}" --resume
