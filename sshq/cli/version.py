"""sshq version: of this sshq; Slurm's verbs say which Slurm they copy."""

from collections.abc import Sequence

from sshq import __version__


def run(_argv: Sequence[str]) -> int:
    """Print the version."""
    print(f"sshq {__version__}")
    return 0
