"""sshq: a batch queue over plain sshd that feels like Slurm."""

__version__ = "0.1.0"
