#!/bin/bash
#SBATCH --job-name=array
#SBATCH --array=0-7%4
#SBATCH --time=5
#SBATCH --output=array-%A_%a.out
# A job array of eight tasks, four at a time: `sshq sbatch array.sh`.  Each takes its own line of a list.

names=(anna bert cleo dora emil fritz gina hugo)
echo "task $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT greets ${names[$SLURM_ARRAY_TASK_ID]}"
