#!/bin/bash
for lr in 0.1 0.01; do
    for seed in 1 2; do
        sbatch <<EOF
#!/bin/bash
#SBATCH --job-name=sweep-$lr-$seed
#SBATCH --output=sweep_${lr}_${seed}.out
#SBATCH --mem=50M
#SBATCH --time=5
echo "lr $lr seed $seed on job \$SLURM_JOB_NAME"
EOF
    done
done
