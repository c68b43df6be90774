"""Where an instance of sshq lives: state, socket, configuration, inventory.

SSHQ_HOME, if set, holds all of it and nothing else is looked at: one variable isolates an instance.
"""

import os
from collections.abc import Mapping

from sshq.wire.client import own_socket

SYSTEM_CONFIGURATION = "/etc/sshq"

# Variables that speak to Slurm's commands or to us; a controller that inherits them would pass them on, or a cancel by
# the job's cookie would find the controller itself.
FOREIGN_PREFIXES = ("SSHQ_", "SLURM_", "SBATCH_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SCONTROL_", "SALLOC_", "SRUN_")

KEPT = ("SSHQ_CRASH",)  # the named crash points of the tests, which the controller takes out of its own environment


class Places:
    """The paths of one instance; None: there is no such file, and none is needed."""

    __slots__ = ("config", "home", "inventory", "socket", "state")

    def __init__(self, *, home: str | None, state: str, socket: str, config: str | None, inventory: str | None) -> None:
        self.home, self.state, self.socket, self.config, self.inventory = home, state, socket, config, inventory

    def arguments(self) -> list[str]:
        """Return the options that tell a process of the controller's side all of it."""
        words = ["--state", self.state, "--socket", self.socket]
        for name, value in (("--home", self.home), ("--config", self.config), ("--inventory", self.inventory)):
            if value is not None:
                words += [name, value]
        return words


def find_places(
    environ: Mapping[str, str], *,
    state: str | None = None, socket: str | None = None, config: str | None = None, inventory: str | None = None,
) -> Places:  # fmt: skip
    """Return where things are; what is given by an option is the strongest, then the variable, then what exists."""
    home = os.path.abspath(environ["SSHQ_HOME"]) if environ.get("SSHQ_HOME") else None
    named = inventory or environ.get("SSHQ_INVENTORY") or None
    default_state = os.path.join(home, "state") if home else os.path.dirname(own_socket(environ))
    default_socket = os.path.join(home, "sock") if home else own_socket(environ)
    chosen_state = os.path.abspath(state) if state else default_state
    if state and not socket and not home:
        default_socket = os.path.join(chosen_state, "sock")
    return Places(
        home=home,
        state=chosen_state,
        socket=os.path.abspath(socket) if socket else default_socket,
        config=os.path.abspath(config) if config else _find_file(environ, home, "config.yaml"),
        inventory=os.path.abspath(named) if named else _find_file(environ, home, "inventory.yaml"),
    )


def find_configured_places(
    environ: Mapping[str, str], *,
    state: str | None = None, socket: str | None = None, config: str | None = None, inventory: str | None = None,
) -> Places:  # fmt: skip
    """Return the same, where the configuration file may move state and socket, too."""
    places = find_places(environ, state=state, socket=socket, config=config, inventory=inventory)
    if places.config is None:
        return places
    from sshq.inventory.config import load_config

    settings = load_config(places.config)
    return find_places(
        environ, state=state or settings.state_dir, socket=socket or settings.socket, config=config, inventory=inventory
    )


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment a controller starts with: no variable of a job's or of another instance."""
    return {
        name: value
        for name, value in interpreter_environment(environ).items()
        if not name.startswith(FOREIGN_PREFIXES) or name in KEPT
    }


def interpreter_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which this very sshq is found, whatever the working directory."""
    found = dict(environ)
    root = find_package_root()
    if os.path.basename(root) not in ("site-packages", "dist-packages"):
        paths = [path for path in found.get("PYTHONPATH", "").split(os.pathsep) if path]
        found["PYTHONPATH"] = os.pathsep.join([root, *(path for path in paths if path != root)])
    return found


def find_package_root() -> str:
    """Return the directory that holds the package `sshq`."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _find_file(environ: Mapping[str, str], home: str | None, name: str) -> str | None:
    if home:
        candidates = [os.path.join(home, name)]
    else:
        own = environ.get("HOME") or os.path.expanduser("~")
        candidates = [os.path.join(own, ".config/sshq", name), os.path.join(SYSTEM_CONFIGURATION, name)]
    return next((path for path in candidates if os.path.exists(path)), None)
