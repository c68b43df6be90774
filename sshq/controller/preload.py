"""The controller loads all of itself when it starts: `pip install -U` under a running one must change nothing in it.

A module or a shell file that were read when it is first needed would be those of another release, or gone.
"""

import importlib
import pkgutil
from types import ModuleType

import sshq.controller
import sshq.core
import sshq.inventory
import sshq.kinds
import sshq.runner
import sshq.slurm
import sshq.store
import sshq.transport
import sshq.wire
from sshq.kinds.allocation import holder_program
from sshq.runner.calls import program
from sshq.runner.commands import srun_program, upcall_program
from sshq.runner.parts import terminal_program
from sshq.runner.survey import survey_program


def load_all() -> None:
    """Import every module of the controller's side, and read what is sent to nodes."""
    packages: tuple[ModuleType, ...] = (
        sshq.controller, sshq.core, sshq.inventory, sshq.kinds, sshq.runner, sshq.slurm, sshq.store, sshq.transport, sshq.wire,
    )  # fmt: skip
    for package in packages:
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for read in (program, srun_program, upcall_program, survey_program, terminal_program, holder_program):
        read()
