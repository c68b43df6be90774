"""A call of a Python function as a job: what is sent to the node, and what is made of the file that comes back.

Functions of `__main__` and of modules in the working directory travel by value (cloudpickle), all others by name.  What comes
back is unpickled here alone, by its owner, from a file of the owner's; controller and commands never look into it.
"""

import base64
import json
import os
import pickle
import shlex
import stat
import sys
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from sshq.api.jobs import Ending, Job, failure_of, name_job
from sshq.api.proof import bring_file, find_cwd, write_private
from sshq.core.pythons import Need, read_requirement
from sshq.errors import OptionError, SshqError, UserError
from sshq.wire.client import find_head

TRAVELS_BYTES_MAX = 3 << 20  # what is larger is a file in the folder, read from there or brought to the host
PICKLE_PROTOCOL = 4  # what Python 3.8 reads

_SCRIPT = """\
#!/bin/sh
# A call of a Python function, written by sshq.api: find an interpreter that can read it, and hand it over.
seen=
fits() {{
    where=$(command -v "$1" 2>/dev/null) || return 1
    has=$("$where" -I -S -c 'import sys
print("%s %d.%d" % (sys.implementation.name, *sys.version_info[:2]))' 2>/dev/null </dev/null) || return 1
    seen="$seen, $where is ${{has#cpython }}"
    case $has in {fitting}) python=$where ;; *) return 1 ;; esac
}}
python=
for one in {candidates}; do
    if [ -n "$one" ] && fits "$one"; then break; fi
done
if [ -z "$python" ]; then
    : "${{seen:=, none was found}}"
    printf 'no Python for this call on %s: it needs {needs}%s\\n' "${{SLURMD_NODENAME:-this host}}" "$seen" >&2
    [ -z "${{SSHQ_RESULT:-}}" ] ||
        printf '{{"ok": false, "size": 0, "type": "NoPython", "message": "it needs {needs}%s"}}\\n' "$seen" >"$SSHQ_RESULT"
    exit 127
fi
stub=$(cat <<'END-OF-STUB'
{stub}
END-OF-STUB
)
exec "$python" -c "$stub" "$0"
exit 127
#CALL
"""


class RemoteError(SshqError):
    """What a call raised and this process cannot rebuild, or why it could not be called at all.

    Attributes:
        type_name: the exception's type there.
        traceback_text: the traceback there, "" if there was none.

    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(f"{type_name}: {message}" if type_name else message)
        self.type_name = type_name
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.message}\n\n{self.traceback_text}" if self.traceback_text else self.message


class NoPythonError(RemoteError):
    """The host has no interpreter that can read the call, or no more: hosts are asked before a call is queued."""


class ResultError(RemoteError):
    """The function returned, but its result cannot travel: it cannot be pickled there, or not be rebuilt here."""


class _RemoteTracebackError(Exception):
    """The traceback on the node, shown as the cause of the exception that came back."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def write_script(
    function: Any, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]], *, folder: str, token: str,
    python: str | None = None, requires: Sequence[str] = (), shipment: str = "", shipped: Collection[str] = (),
) -> tuple[bytes, Need, str | None]:  # fmt: skip
    """Return the script that makes one of `calls`, the only one or that of SLURM_ARRAY_TASK_ID; its need; a large one's file.

    Raises:
        UserError: something cannot be pickled; it says what.

    """
    with by_value_modules(shipped):
        packed = pack(function, "the function")
        blobs = pack_each(calls)
    by_value = any(b"cloudpickle" in blob for blob in (packed, *blobs))
    need = make_need(python, requires, by_value=by_value)
    document = {
        "function": _encode(packed),
        "calls": _encode(zlib.compress(pickle.dumps(blobs, PICKLE_PROTOCOL), 6)),
        "ship": shipment,
        "cloudpickle": cloudpickle_source() if by_value else None,
        "path": own_paths(),
    }
    text, path = json.dumps(document).encode(), None
    if len(text) > TRAVELS_BYTES_MAX:
        path = os.path.join(folder, f"{token}.call")
        write_private(path, text)
        # Where the directory is not shared it goes along as `--stage-in` would take it: below the directory, or by its name.
        beside = os.path.relpath(path, find_cwd())
        place = {"path": path, "beside": os.path.basename(path) if beside.startswith("..") else beside}
        text = json.dumps({"file": {**place, "size": len(text), "sha256": sha256(text).hexdigest()}}).encode()
    return os.fsencode(write_head(need, "stub.py")) + text + b"\n", need, path


def make_need(python: str | None, requires: Sequence[str], *, by_value: bool) -> Need:
    """Return what a call needs of an interpreter: of this very version if it holds code, which only that can read.

    Args:
        python: path or name of the only one that may be taken; None: the host's own, ours, what is called python3.
        requires: distributions that must be installed: "numpy", "numpy>=1.20,<3".
        by_value: whether the call holds code.

    Raises:
        OptionError: one of `requires` cannot be read.

    """
    if isinstance(requires, str):
        requires = (requires,)
    for one in requires:
        try:
            read_requirement(one)
        except ValueError as error:
            raise OptionError(str(error), source="requires") from None
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    own = ("", sys.executable, f"python{version}", "python3", "/usr/bin/python3", "/usr/local/bin/python3")
    return Need(
        version=version if by_value else None, implementation=sys.implementation.name if by_value else "",
        candidates=own if python is None else (python,), requires=tuple(one.strip() for one in requires),
    )  # fmt: skip


def write_head(need: Need, stub: str) -> str:
    """Return the sh that finds an interpreter and hands over to a stub of this folder."""
    # "" is what the controller found for this need, or the host's own: it comes in a variable.
    candidates = " ".join(shlex.quote(one) if one else '"${SSHQ_PYTHON:-}"' for one in need.candidates)
    if need.version is None:
        fitting = '*" 3.8" | *" 3.9" | *" 3."[1-9][0-9] | *" "[4-9].*'
    else:
        fitting = f'"{need.implementation} {need.version}"'
    needs = f"{replace(need, requires=(), candidates=())}, which wrote it" if need.version else "Python 3.8 or newer"
    return _SCRIPT.format(candidates=candidates, fitting=fitting, needs=needs, stub=_read_stub(stub))


def finish_call(path: str, job: Job, ending: Ending) -> object:
    """Return what the function returned, or raise what it raised, with the traceback there as the cause.

    Raises:
        JobFailedError: the job left no result: it was killed (also `TimeLimitError`, `OutOfMemoryError`, `NodeLostError`).
        RemoteError: the exception cannot be rebuilt here (also `ResultError`, `NoPythonError`).

    """
    try:
        path = bring_file(path)
        head, body = _read_result(path)
    except FileNotFoundError:
        if ending.state == "COMPLETED":
            raise RemoteError("", f"job {name_job(job.job_id, job.array_task_id)} completed, but {path} is not there") from None
        raise failure_of(ending, job._last_words()) from None  # noqa: SLF001  a friend of this class
    if head["ok"] is True:
        try:
            value = pickle.loads(body)  # noqa: S301  our own call's result, from a file of ours
        except Exception as error:
            label = name_job(job.job_id, job.array_task_id)
            text = f"the result of job {label} cannot be rebuilt here: {error} (it is kept in {path})"
            raise ResultError(type(error).__name__, text) from error
        os.unlink(path)
        return value
    os.unlink(path)
    raise rebuild_error(body, str(head.get("type", "")), str(head.get("message", "")), str(head.get("traceback") or ""))


def rebuild_error(packed: bytes, type_name: str, message: str, text: str) -> BaseException:
    """Return what was raised on a node, with the traceback there as its cause; a RemoteError where it cannot be rebuilt."""
    if packed:
        try:
            error = pickle.loads(packed)  # noqa: S301
        except Exception:
            error = None
        if isinstance(error, BaseException):
            error.__cause__ = _RemoteTracebackError(text)
            return error
    if type_name == "NoPython":
        return NoPythonError(type_name, message, text)
    if type_name == "UnpicklableResult":
        return ResultError("", message, text)
    if type_name == "SystemExit":
        message = f"{message} (the function called sys.exit)"
    return RemoteError(type_name, message, text)


def _read_result(path: str) -> tuple[dict[str, Any], bytes]:
    """Return the head and the body of a result file; FileNotFoundError for one that is not there or not whole."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if found.st_uid not in (os.geteuid(), 0) or not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} belongs to uid {found.st_uid}, not to you: it is not unpickled")
        line = file.readline()
        body = file.read()
    try:
        head = json.loads(line)
    except ValueError:
        raise FileNotFoundError(path) from None
    if len(body) != head.get("size") or (body and sha256(body).hexdigest() != head.get("sha256")):
        raise FileNotFoundError(path)
    return head, body


def own_paths() -> list[str]:
    """Return what of this process's module path is no installation: a node that shares the directories finds modules there."""
    if find_head(os.environ) is not None:
        return []  # of another machine
    return [path for path in sys.path if path and not _is_installed(path)]


def pack_each(calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> list[bytes]:
    """Return a pickle of the arguments of each call; UserError as for `pack`."""
    return [pack(call, "the arguments" if len(calls) == 1 else f"the arguments of call {i}") for i, call in enumerate(calls)]


def pack(value: object, what: str) -> bytes:
    """Return a pickle of a function or its arguments.

    Raises:
        UserError: it cannot be pickled; `what` says what it is.

    """
    try:
        import cloudpickle
    except ImportError:
        raise UserError("calls of Python functions need cloudpickle", hint="pip install 'sshq[python]'") from None
    try:
        packed = cloudpickle.dumps(value, PICKLE_PROTOCOL)
    except Exception as error:
        raise UserError(f"{what} cannot be pickled: {error}", hint="open files, locks and connections cannot travel") from error
    return bytes(packed)


@contextmanager
def by_value_modules(shipped: Collection[str] = ()) -> Iterator[None]:
    """Modules of the working directory travel by value: no node need have them; but those that are `shipped` by name."""
    import cloudpickle

    here = os.path.realpath(os.getcwd()) + os.sep
    own = [
        module for module in {id(module): module for module in list(sys.modules.values())}.values()
        if _lies_in(module, here) and module.__name__.partition(".")[0] not in shipped
    ]  # fmt: skip
    already = set(cloudpickle.list_registry_pickle_by_value())
    ours = [module for module in own if module.__name__ not in already]
    for module in ours:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in ours:
            cloudpickle.unregister_pickle_by_value(module)


def _lies_in(module: ModuleType | None, folder: str) -> bool:
    file = getattr(module, "__file__", None)
    if getattr(module, "__name__", "") == "__mp_main__":
        return True  # what `__main__` is called in a process that multiprocessing spawned
    if not isinstance(module, ModuleType) or not isinstance(file, str) or module.__name__ in ("__main__", "sshq"):
        return False
    if module.__name__.startswith(("sshq.", "cloudpickle")):
        return False
    return _real(file).startswith(folder) and not _is_installed(file)


@cache
def _real(path: str) -> str:
    return os.path.realpath(path)


@cache
def _is_installed(path: str) -> bool:
    parts = path.split(os.sep)
    standard = (f"{sys.base_prefix}{os.sep}lib", f"{sys.prefix}{os.sep}lib")
    return "site-packages" in parts or "dist-packages" in parts or path.startswith(standard)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


@cache
def cloudpickle_source() -> tuple[str, str]:
    """Return cloudpickle's own text, packed, and its version: one module that a node need not have, or has another of."""
    import cloudpickle.cloudpickle

    text = Path(cloudpickle.cloudpickle.__file__).read_bytes()
    return _encode(zlib.compress(text, 9)), str(cloudpickle.__version__)


@cache
def _read_stub(name: str) -> str:
    return Path(__file__).with_name(name).read_text()
