"""sshq cp: copy files out of the directory of a job that runs, or of one that ended and is still on its host."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from sshq.cli.own import UsageMistakeError, own_command, read_job_ref, run_command
from sshq.cli.printing import print_messages
from sshq.cli.terminal import show_controls
from sshq.core.digests import Digest, make_digest
from sshq.errors import RefusedError, UnreachableError, UserError
from sshq.landing import Landing, ObstacleError, Part
from sshq.wire.client import connect
from sshq.wire.passing import write_all

T = TypeVar("T")
PATIENCE_S = 60.0  # for a host or a controller that is away in the middle
PAUSE_S = 0.3
TRIES = 3  # of a file that changes while it is read
PROGRESS_BYTES_MIN = 4 << 20
PROGRESS_S = 0.2
_SOURCE = re.compile(r"([0-9]+(?:_[0-9]+)?):(.*)", re.DOTALL)
_ODD = {"l": "a symbolic link", "o": "no regular file", "u": "not readable"}


class _ChangedError(Exception):
    """What came is not what the checksum says."""


@own_command("cp")
@click.argument("source", metavar="JOB:PATH")
@click.argument("target", metavar="LOCAL")
@click.option("-r", "--recursive", is_flag=True, help="Directories, too, with all below them.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def _command(source: str, target: str, recursive: bool, quiet: bool) -> int:
    """Copy PATH of the directory of JOB (12, or 12_4 for an array task) to LOCAL, a file or directory of this machine.

    PATH is relative to the directory the job runs in, and may be a pattern: `sshq cp 12:'out/*.csv' .`.  `sshq cp 12:results/ .`
    copies a whole directory, as -r does.  LOCAL `-` is standard output.  What is cut off goes on where it was; each file
    appears whole, compared with its checksum.  Of a file that the job is writing to it is as much as there was at the beginning.
    """
    given = _SOURCE.fullmatch(source)
    if given is None:
        if _SOURCE.fullmatch(target):
            raise UsageMistakeError(
                "files are copied from jobs only, not to them", hint="what a job is to find: sbatch --stage-in or --sync"
            )
        raise UsageMistakeError(f"{source} names no job", hint="sshq cp 12:results.csv .")
    ref, path = read_job_ref(given[1]), given[2]
    copy = _Copy(ref, given[1], show=not quiet and sys.stderr.isatty())
    found = copy.find(path)
    if target == "-":
        return copy.to_stdout(found, path)
    return copy.to_disk(found, path, target, recursive=recursive or path.endswith("/") or path in ("", "."))


def run(argv: Sequence[str]) -> int:
    """Run `sshq cp`."""
    return run_command(_command, "cp", argv)


class _Copy:
    """Copies from one job."""

    def __init__(self, ref: list[object], name: str, *, show: bool) -> None:
        self._ref, self._name, self._show = ref, name, show
        self._umask = 0o77
        self._like: object = None  # a checksum of the node's kind, where there is a large file
        self._depth, self._all = 0, False  # of what was asked for: how far down it is, and whether it is all there is

    def find(self, path: str) -> list[dict[str, Any]]:
        """Return what the path matches on the host."""

        def ask() -> list[dict[str, Any]]:
            with connect(os.environ) as client:
                stream = client.stream("job_files", {"ref": self._ref, "path": path}, timeout_s=600.0)
                items = list(stream)
                self._depth = str(stream.result.get("pattern", "")).rstrip("/").count("/")
                self._all = str(stream.result.get("pattern")) == "./"
                self._like = stream.result.get("sum_of_nothing")
                return items

        found = _patiently(ask, first=True)
        if not found:
            raise UserError(f"{self._name}:{path}: no such file or directory in the job's directory",
                            hint=f"sshq cp -r {self._name}: DIRECTORY copies all of it")  # fmt: skip
        return found

    def to_stdout(self, found: list[dict[str, Any]], path: str) -> int:
        if len(found) != 1 or found[0]["kind"] != "f":
            raise UserError(f"{self._name}:{path} is not one regular file, and only one can go to standard output")
        sys.stdout.flush()
        sent = [0]

        def write(data: bytes) -> None:
            write_all(sys.stdout.fileno(), data)
            sent[0] += len(data)

        try:
            self._read(found[0], write, lambda: sent[0], _Digests(self._like))
        except _ChangedError:
            raise UserError(f"{self._name}:{path} has changed while it was read: what was printed is not the file") from None
        return 0

    def to_disk(self, found: list[dict[str, Any]], path: str, target: str, *, recursive: bool) -> int:
        try:
            return self._write(found, path, target, recursive=recursive)
        except OSError as error:
            raise UserError(f"{target}: {error.strerror or error}") from None

    def _write(self, found: list[dict[str, Any]], path: str, target: str, *, recursive: bool) -> int:
        tops = {self._place(item["name"], 1) for item in found}
        if self._all and not os.path.lexists(target):
            os.mkdir(target)
        into = os.path.isdir(target)
        if not into and (len(tops) > 1 or target.endswith("/")):
            raise UserError(f"{target} is not a directory", hint=f"mkdir {target}")
        if any(item["kind"] == "d" for item in found) and not recursive:
            raise UserError(f"{self._name}:{path} is a directory", hint=f"sshq cp -r {self._name}:{path} {target}")
        root, new_name = (target, None) if into else (os.path.dirname(target) or ".", os.path.basename(target))
        umask = os.umask(0o77)
        os.umask(umask)
        code = 0
        self._umask = umask
        with Landing(root, f"cp-{os.getpid():x}", umask) as landing:
            for item in found:
                name = self._place(item["name"])
                name = name if new_name is None else "/".join([new_name, *name.split("/")[1:]])
                code = max(code, self._land(item, os.fsencode(name), landing))
            landing.sync()
        return code

    def _place(self, name: str, parts: int | None = None) -> str:
        """Return a name without the directories on the way to what the pattern matched."""
        split = name.split("/")[self._depth :]
        return "/".join(split[:parts])

    def _land(self, item: dict[str, Any], name: bytes, landing: Landing) -> int:
        shown = f"{self._name}:{item['name']}"
        if item["kind"] in _ODD or (item["kind"] == "f" and item["size"] is None):
            why = _ODD.get(item["kind"], "its name is not one that is written here")
            print_messages([f"sshq: {shown} was not copied: {why}"])
            return 1
        try:
            if item["kind"] == "d":
                landing.make_directory(name)
            else:
                self._land_file(item, name, landing)
        except ObstacleError as error:
            print_messages([f"sshq: error: {shown} was not copied: {error}"])
            return 1
        except _ChangedError:
            print_messages([f"sshq: error: {shown} was not copied: it changes while it is read"])
            return 1
        return 0

    def _land_file(self, item: dict[str, Any], name: bytes, landing: Landing) -> None:
        for left in range(TRIES - 1, -1, -1):
            part: Part | None = None
            try:
                part = landing.begin(name, lambda _: None, 0)
                self._read(item, part.write, lambda part=part: part.done, _Digests(self._like))  # type: ignore[misc]
                part.publish(int(item["mode"]) & ~self._umask)
                return
            except _ChangedError:
                if not left:
                    raise
            finally:
                if part is not None:
                    part.discard()

    def _read(self, item: dict[str, Any], write: Callable[[bytes], None], done: Callable[[], int], digests: "_Digests") -> None:
        """Read a file to its end, over as many connections as it takes.  Raises _ChangedError."""
        size = int(item["size"])
        with _progress(self._show and size >= PROGRESS_BYTES_MIN, str(item["name"]), size) as tell:

            def ask() -> str:
                with connect(os.environ) as client:
                    params = {"ref": self._ref, "name": item["name"], "size": size, "offset": done()}
                    stream = client.data("job_file", params, timeout_s=600.0)
                    for data in stream:
                        digests.update(data)
                        write(data)
                        tell(done())
                return str(stream.result.get("sum"))

            expected = _patiently(ask, progress=done)
        if not digests.match(expected):
            raise _ChangedError


class _Digests:
    """The checksum of a node's kind, which it has said of a large file; else both that it may have: the end tells which."""

    def __init__(self, like: object) -> None:
        kinds = [like] if isinstance(like, str) else ["0" * 64, "0"]
        self._both: list[Digest] = [make_digest(kind) for kind in kinds]

    def update(self, data: bytes) -> None:
        for digest in self._both:
            digest.update(data)

    def match(self, expected: str) -> bool:
        return any(digest.hexdigest() == expected for digest in self._both)


def _patiently(ask: Callable[[], T], *, first: bool = False, progress: Callable[[], int] = lambda: 0) -> T:
    """Ask again while the host or the controller is away; the first question of all is not asked twice."""
    ends_at, before = time.monotonic() + PATIENCE_S, progress()
    while True:
        try:
            return ask()
        except (UnreachableError, RefusedError) as error:
            if isinstance(error, RefusedError) and error.code != "not_now":
                raise
            now = time.monotonic()
            if progress() > before:
                ends_at, before = now + PATIENCE_S, progress()
            if first or now > ends_at:
                raise
        time.sleep(PAUSE_S)


@contextmanager
def _progress(show: bool, name: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show how much of a file is here, on one line of the terminal."""
    told = [0.0]

    def tell(done: int) -> None:
        now = time.monotonic()
        if show and now - told[0] >= PROGRESS_S:
            told[0] = now
            filled = 20 * done // size if size else 20
            _draw(f"\r{show_controls(name)[-40:]}  [{'#' * filled:<20}] {done >> 20}/{size >> 20} MiB")

    try:
        yield tell
    finally:
        if told[0]:
            _draw("\r\x1b[K")


def _draw(text: str) -> None:
    """Past the guard of stderr, which shows what steers a terminal."""
    sys.stderr.flush()
    os.write(sys.stderr.fileno(), text.encode("utf-8", "replace"))
