"""Modules that travel with a call as their own source (`ship=`), for nodes where they are not installed.

They travel as a zip and are unpacked into the job's TMPDIR, first on `sys.path` there.  Compiled code cannot travel: it is built
for one machine; such packages have to be installed (`requires=` asks for them before anything is queued).
"""

import base64
import io
import os
import sys
import zipfile
from collections.abc import Iterable
from types import ModuleType

from sshq.errors import OptionError

COMPILED = (".so", ".pyd", ".dylib", ".a", ".o")
PASSED_OVER = ("__pycache__", ".git", ".hg", ".venv", ".sshq")
SHIPMENT_BYTES_MAX = 2 << 20  # of the zip: it goes to each node with each launch
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # so that the same files are the same bytes


def pack_modules(ship: "Iterable[ModuleType | str | os.PathLike[str]]") -> str:
    """Return what carries the modules, "" for none.

    Args:
        ship: modules, or paths of a .py file or of a package's directory.

    Raises:
        OptionError: no such file, not Python source, or too large.

    """
    if isinstance(ship, str | os.PathLike | ModuleType):
        ship = (ship,)
    files: dict[str, str] = {}
    for one in ship:
        path = _find_source(one)
        if os.path.isdir(path):
            files |= _list_package(path)
        else:
            files[os.path.basename(path)] = path
    if not files:
        return ""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(files.items()):
            with open(path, "rb") as file:
                archive.writestr(zipfile.ZipInfo(name, FIXED_TIME), file.read(), zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    if len(data) > SHIPMENT_BYTES_MAX:
        text = f"what ship= names has {len(data)} bytes packed, {SHIPMENT_BYTES_MAX} are allowed"
        raise OptionError(text, source="ship", hint="install it on the hosts and ask for it by requires=")
    return base64.b64encode(data).decode()


def names_of(ship: "Iterable[ModuleType | str | os.PathLike[str]]") -> set[str]:
    """Return the top-level names that the modules are imported by on the node."""
    if isinstance(ship, str | os.PathLike | ModuleType):
        ship = (ship,)
    return {os.path.basename(_find_source(one)).removesuffix(".py") for one in ship}


def _find_source(one: "ModuleType | str | os.PathLike[str]") -> str:
    if isinstance(one, ModuleType):
        name = one.__name__.partition(".")[0]  # of a submodule the whole package, or it could not be imported there
        top = sys.modules.get(name, one)
        file = getattr(top, "__file__", None)
        places = [] if file else [str(place) for place in getattr(top, "__path__", ())]
        path = file or (places[0] if places else "")
        if not path or path.endswith(COMPILED):
            raise OptionError(f"module {name} cannot be shipped: it is no Python source", source="ship",
                              hint=f'it has to be installed on the hosts: requires=["{name}"]')  # fmt: skip
        return os.path.dirname(path) if os.path.basename(path) == "__init__.py" else path
    path = os.path.abspath(os.fspath(one))
    if not os.path.exists(path):
        hint = "a module, or the path of a .py file or of a package's directory"
        raise OptionError(f"ship: {path} is not there", source="ship", hint=hint)
    if os.path.isfile(path) and not path.endswith(".py"):
        raise OptionError(f"ship: {path} is no Python source", source="ship", hint="a .py file, or a package's directory")
    return path


def _list_package(folder: str) -> dict[str, str]:
    above = os.path.dirname(folder)
    files = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER)
        for name in names:
            path = os.path.join(place, name)
            if name.endswith(COMPILED):
                package = os.path.basename(folder)
                raise OptionError(
                    f"{package} cannot be shipped: {os.path.relpath(path, above)} is compiled for this machine", source="ship",
                    hint=f'it has to be installed on the hosts: requires=["{package}"]',
                )  # fmt: skip
            if not name.endswith((".pyc", ".pyo")) and os.path.isfile(path):
                files[os.path.relpath(path, above)] = path
    return files
