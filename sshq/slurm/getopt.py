"""GNU getopt_long as Slurm's commands use it: unique prefixes, `--a=b`, `--a b`, `-n4`, clusters, `--`.

sbatch and srun stop at the first word that is not an option (the script's own arguments follow); the others take
options anywhere.  Each value keeps where it came from, so that a message can name it.  Texts of errors are glibc's.
"""

from sshq.errors import OptionError
from sshq.slurm.messages import ExactError, exit_code_for_option
from sshq.slurm.options import FOLLOWED, IGNORED, NO_VALUE, OPTIONAL, REFUSED, REQUIRED, Option, options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STOPS_AT_FIRST_WORD = ("sbatch", "srun", "salloc")
_WANTS = ("help", "usage", "version")


class Given:
    """One option as it was given: `source` is its place in a word, `text` the user's own words with the place."""

    __slots__ = ("option", "source", "text", "value")

    def __init__(self, option: Option, value: str | None, source: str, text: str) -> None:
        self.option = option
        self.value = value
        self.source = source
        self.text = text

    def __repr__(self) -> str:
        return f"Given({self.text})"


class Parsed:
    """What a command line and the environment came to; weaker values stand before stronger ones."""

    __slots__ = ("arguments", "command", "given", "warnings")

    def __init__(self, command: str, given: "Iterable[Given]", arguments: list[str]) -> None:
        self.command = command
        self.given = list(given)
        self.arguments = arguments
        self.warnings: list[str] = []

    @property
    def wants(self) -> str | None:
        """The first of help, usage and version that was asked for; Slurm stops there."""
        return next((one.option.field for one in self.given if one.option.field in _WANTS), None)

    def last(self, field: str) -> Given | None:
        """Return the strongest giving of a field."""
        return next((one for one in reversed(self.given) if one.option.field == field), None)

    def value(self, field: str) -> str | None:
        """Return the strongest value of a field, None if it was not given (or is a flag)."""
        one = self.last(field)
        return one.value if one else None

    def has(self, field: str) -> bool:
        return self.last(field) is not None

    def count(self, field: str) -> int:
        """Return how often a field was given: -vv is two."""
        return sum(one.option.field == field for one in self.given)


def parse_options(command: str, argv: "Sequence[str]", environ: "Mapping[str, str] | None" = None) -> Parsed:
    """Return what `argv` (without the program's name) and the command's variables say; argv is the stronger.

    Raises:
        OptionError: an unknown or ambiguous option, a missing value, or an option sshq refuses.
    """
    options = options_of(command)
    given, arguments = scan_words(command, options, argv, permute=command not in STOPS_AT_FIRST_WORD)
    parsed = Parsed(command, [*scan_environment(options, environ or {}), *given], arguments)
    if not parsed.wants:
        parsed.warnings = judge_handling(parsed)
    return parsed


def judge_handling(parsed: Parsed) -> list[str]:
    """Return one warning for the ignored options that were given and have no effect for the same reason.

    Raises:
        OptionError: a refused option was given.
    """
    warnings: dict[str, list[str]] = {}
    for one in parsed.given:
        option = one.option
        if option.handling == REFUSED and one.value not in ("none", "0"):
            raise OptionError(
                f"{option.name} is not supported by sshq, and leaving it out would change {option.reason}",
                source=one.source,
                detail=(one.text,),
                hint=f"sshq {parsed.command} --help lists what is",
            )
        if option.handling == IGNORED:
            names = warnings.setdefault(option.reason, [])
            if option.name not in names:
                names.append(option.name)
    return [f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect here: {why}" for why, names in warnings.items()]


def scan_environment(options: "Iterable[Option]", environ: "Mapping[str, str]") -> list[Given]:
    """Return the options that variables give, in the order of the rows."""
    given = []
    for option in options:
        value = environ.get(option.variable) if option.variable else None
        if value is None:
            continue
        text = f"{option.variable}={value}"
        if option.takes != NO_VALUE:
            given.append(Given(option, value or (None if option.takes == OPTIONAL else ""), option.variable, text))
        elif _is_set(value):
            given.append(Given(option, None, option.variable, text))
    return given


def scan_words(
    command: str, options: "Sequence[Option]", words: "Sequence[str]", *, permute: bool, place: tuple[str, str] | None = None,
) -> tuple[list[Given], list[str]]:  # fmt: skip
    """Return the options among `words` and the words that are none.

    Args:
        command: for the texts of errors.
        options: the command's rows.
        words: the command line, or the words of a directive.
        permute: take options behind other words too.
        place: of a directive: ("job.sh:3", "job.sh:3: #SBATCH --time=1h"); None on the command line.

    Raises:
        OptionError: as `parse_options`.
    """
    scanner = _Scanner(command, options, list(words), place)
    return scanner.scan(permute=permute)


def _is_set(value: str) -> bool:
    # sbatch(1): a flag's variable turns it on if empty, "yes" or a number other than 0.
    return value == "" or value.lower() == "yes" or (value.lstrip("+-").isdigit() and int(value) != 0)


class _Scanner:
    def __init__(self, command: str, options: "Sequence[Option]", words: list[str], place: tuple[str, str] | None) -> None:
        self.command, self.options, self.words, self.place = command, options, words, place
        self.at = 0
        self.given: list[Given] = []
        self.shorts = {option.short[1]: option for option in options if option.short}

    def scan(self, *, permute: bool) -> tuple[list[Given], list[str]]:
        arguments: list[str] = []
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if word == "--":
                break
            if word.startswith("--"):
                self.take_long(word)
            elif word.startswith("-") and word != "-":
                self.take_cluster(word)
            elif permute:
                arguments.append(word)
            else:
                self.at -= 1
                break
            if self.given and self.given[-1].option.field in _WANTS and self.place is None:
                break  # as Slurm: --help answers at once, whatever follows
        return self.given, [*arguments, *self.words[self.at :]]

    def take_long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        option, full = self.find_long(name, word)
        if equals:
            if option.takes == NO_VALUE:
                raise self.fail(f"option '{full}' doesn't allow an argument")
            self.keep(option, value, word)
        elif option.takes == REQUIRED:
            follower = self.next_word()
            if follower is None:
                raise self.fail(f"option '{full}' requires an argument")
            self.keep(option, follower, f"{word}={follower}")
        elif option.takes == FOLLOWED and self.at < len(self.words) and not self.words[self.at].startswith("-"):
            self.keep(option, self.next_word(), f"{word} {self.words[self.at - 1]}")
        else:
            self.keep(option, None, word)

    def find_long(self, name: str, word: str) -> tuple[Option, str]:
        matches: list[tuple[Option, str]] = []
        for option in self.options:
            for long in option.longs:
                if long == name:
                    return option, long
                if long.startswith(name):
                    matches.append((option, long))
        if not matches:
            raise self.fail(f"unrecognized option '{word}'", hint=self.suggest(name))
        if len({id(option) for option, _ in matches}) > 1:
            possibilities = " ".join(f"'{long}'" for _, long in matches)
            raise self.fail(f"option '{word}' is ambiguous; possibilities: {possibilities}")
        return matches[0]

    def take_cluster(self, word: str) -> None:
        for position, letter in enumerate(word[1:], 1):
            option = self.shorts.get(letter)
            if option is None:
                raise self.fail(f"invalid option -- '{letter}'")
            rest = word[position + 1 :]
            if option.takes == NO_VALUE:
                self.keep(option, None, f"-{letter}")
            elif option.takes == OPTIONAL or rest:
                self.keep(option, rest or None, f"-{letter}{rest}")
                return
            elif option.takes == FOLLOWED and (self.at == len(self.words) or self.words[self.at].startswith("-")):
                self.keep(option, None, f"-{letter}")
                return
            else:
                follower = self.next_word()
                if follower is None:
                    raise self.fail(f"option requires an argument -- '{letter}'")
                self.keep(option, follower, f"-{letter} {follower}")
                return

    def next_word(self) -> str | None:
        if self.at >= len(self.words):
            return None
        self.at += 1
        return self.words[self.at - 1]

    def keep(self, option: Option, value: str | None, text: str) -> None:
        source, text = self.place or (option.name, text)
        self.given.append(Given(option, value, source, text))

    def fail(self, text: str, hint: str | None = None) -> OptionError:
        lines = [f"{self.command}: {text}"]
        if self.command != "sacct":  # which is the one command that leaves this line out
            lines.append(f'Try "{self.command} --help" for more information')
        detail = (self.place[1],) if self.place else ()
        source = self.place[0] if self.place else ""
        code = exit_code_for_option(self.command)
        return ExactError(tuple(lines), source=source, detail=detail, hint=hint, exit_code=code)

    def suggest(self, name: str) -> str | None:
        return suggest_name(name, [long for option in self.options for long in option.longs])


def suggest_name(name: str, known: "Iterable[str]") -> str | None:
    """Return "did you mean …?" for the nearest known name at most two edits away, None without one."""
    near = (other for other in known if abs(len(other) - len(name)) < 3)
    best = min(((_edit_distance(name, other), other) for other in near), default=None)
    return f"did you mean {best[1]}?" if best and best[0] < 3 and best[0] * 3 < len(name) else None


def _edit_distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, second in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != second))
    return row[-1]
