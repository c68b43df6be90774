"""Many scripts with the same options: what sbatch would make of each, at a twentieth of the price.

Scripts whose directives are the same, word for word, differ in their text and name alone, so everything else is worked out
once for all of them.
"""

from sshq.errors import OptionError
from sshq.slurm.directives import check_script, read_directives
from sshq.slurm.submit import WRAPPER, build_submission, find_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sshq.slurm.submit import Submission

PART = 1000  # submissions of one request
PART_BYTES = 2 << 20


class Prepared:
    """One job: what it has in common with others, and the keys of the description that are its own."""

    __slots__ = ("base", "own")

    def __init__(self, base: "Submission", own: dict[str, object]) -> None:
        self.base = base
        self.own = own

    @property
    def description(self) -> dict[str, object]:
        """What the controller gets, whole."""
        return {**self.base.description, **self.own}


class Many:
    """Reads scripts; the words are options only, and mean for each script what they mean to sbatch.

    Args are those of `build_submission`; and `choose_environ`: what of an environment goes along, given the value of --export;
    `describe_origin`: what is told of where a submission comes from, given the value of --sync.
    Errors of the options are raised with the first script.
    """

    def __init__(
        self, words: "Sequence[str]", environ: "Mapping[str, str]", *, read_file: "Callable[[str], bytes]", now: float,
        umask: int, cwd: str, submit_host: str = "", read_limit: "Callable[[str], int] | None" = None,
        choose_environ: "Callable[[dict[str, str], object], dict[str, str]]" = lambda environ, _export: environ,
        describe_origin: "Callable[[str | None], dict[str, str]] | None" = None,
    ) -> None:  # fmt: skip
        self._words = list(words)
        self._environ = dict(environ)  # os.environ decodes at each look
        self._read_file = read_file
        self._cwd = cwd
        self._choose_environ = choose_environ
        self._describe_origin = describe_origin
        self._origins: dict[str | None, dict[str, str]] = {}
        self._facts = {"now": now, "umask": umask, "cwd": cwd, "submit_host": submit_host, "read_limit": read_limit}
        self._bases: dict[tuple[object, ...], Submission] = {}
        self._environs: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def read_command(self, command: str) -> Prepared:
        """Return what `--wrap` makes of a command line."""
        base = self._bases.get(("wrap",))
        if base is None:
            base = self._keep(("wrap",), self._build(["--wrap=:"], b"", ""))
        return Prepared(base, {"script": WRAPPER.format(command=command)})

    def read_path(self, path: str, label: str = "", *, search: bool = True) -> Prepared:
        """Return what a script asks for; `search` for it where sbatch does; `label` is its name in messages, else as sbatch's."""
        folders = [self._cwd]
        if search and "/" not in path:
            folders += [folder for folder in self._environ.get("PATH", "").split(":") if folder]
        script, found = find_script(path, folders, self._read_file, "sbatch")
        prepared = self._read(script, label, path=found)
        prepared.own["command"] = found
        if "name" not in prepared.base.sources:
            prepared.own["name"] = found.rpartition("/")[2]
        return prepared

    def read_text(self, script: bytes, label: str = "") -> Prepared:
        """Return what a script asks for that is given as its text."""
        return self._read(script, label, path="")

    def _read(self, script: bytes, label: str, path: str) -> Prepared:
        check_script(script)
        text = script.decode("utf-8", "surrogateescape")
        place = label or path.rpartition("/")[2] or "stdin"
        key = (bool(path), *((one.marker, *one.words) for one in read_directives(text, place)))
        base = self._bases.get(key)
        if base is None:
            base = self._keep(key, self._build([path] if path else [], script, place))
        return Prepared(base, {"script": text})

    def _build(self, words: list[str], script: bytes, label: str) -> "Submission":
        submission = build_submission(
            [*self._words, *words], self._environ, read_file=lambda name: script if [name] == words else self._read_file(name),
            read_stdin=lambda: script, label=label, **self._facts,  # type: ignore[arg-type]
        )  # fmt: skip
        if submission.wants or submission.test_only:
            raise OptionError("--help, --version and --test-only are for one job", hint="sshq sbatch --help")
        return submission

    def _keep(self, key: tuple[object, ...], base: "Submission") -> "Submission":
        """Keep it for the next; environments that are equal become one object."""
        environ = self._choose_environ(base.environ, base.description.get("export"))
        base.environ = self._environs.setdefault(tuple(sorted(environ.items())), environ)
        if self._describe_origin is not None:
            if base.sync not in self._origins:
                self._origins[base.sync] = self._describe_origin(base.sync)
            base.description["origin"] = self._origins[base.sync]
        self._bases[key] = base
        return base


def split_parts(read: "Iterable[Prepared]") -> "Iterator[list[Prepared]]":
    """Yield runs that one request may carry: of one environment and directory, and not too large."""
    part: list[Prepared] = []
    size = 0
    for one in read:
        length = len(str(one.own["script"])) + 256
        if part:
            first = part[0].base
            alike = one.base is first or (
                one.base.environ == first.environ and one.base.description["work_dir"] == first.description["work_dir"]
            )
            if not alike or len(part) >= PART or size + length > PART_BYTES:
                yield part
                part, size = [], 0
        part.append(one)
        size += length
    if part:
        yield part


def describe_part(part: "Sequence[Prepared]") -> dict[str, object]:
    """Return the parameters that describe a part: what its first has in common with others, and of each what is different."""
    first = part[0]
    common = {**first.base.description, **first.own}
    changes: dict[int, dict[str, object]] = {}
    descriptions = []
    for one in part:
        change = changes.get(id(one.base))
        if change is None:
            change = {key: value for key, value in one.base.description.items() if common.get(key) != value}
            changes[id(one.base)] = change
        own = {key: value for key, value in one.own.items() if common.get(key) != value}
        back = {key: value for key, value in change.items() if key not in one.own}
        descriptions.append({**back, **own})
    return {"common": common, "descriptions": descriptions}
