import os
import sys

rank, size = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
print(f"rank {rank} of {size}, local rank {os.environ['SLURM_LOCALID']}")
if rank == 0:
    print("only rank 0 complains", file=sys.stderr)
