#!/bin/bash
for name in "alpha" "beta gamma"; do
    sbatch --mem=50M -J "$name" -o "wrap-%x.out" --export=ALL,WHO="$name" --wrap="echo \"hello \$WHO\"; echo \$SLURM_JOB_NAME"
done
