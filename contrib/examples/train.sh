#!/bin/bash
#SBATCH --job-name=train
#SBATCH --time=10
#SBATCH --cpus-per-task=1
#SBATCH --output=train-%j.out
# A plain Slurm script: `sshq sbatch train.sh [EPOCHS]`.  Nothing in it is sshq's own.

echo "job $SLURM_JOB_ID on $SLURMD_NODENAME, $SLURM_CPUS_PER_TASK CPUs, since $(date +%T)"
for ((epoch = 1; epoch <= ${1:-3}; epoch++)); do
    echo "epoch $epoch"
    sleep 0.1
done
