"""Lines of a batch script that speak to sbatch: #SBATCH, our #SSHQ, and a little of #PBS and #BSUB.

Slurm's rules, seen on 22.05: the marker stands at the very beginning of a line; reading ends with the first line
that is neither blank nor a comment; quotes work; a word that begins with # ends the line; `##SBATCH`, ` #SBATCH`
and `#sbatch` are comments.  #SSHQ takes the same options, ours and Slurm's, and is a comment to Slurm: so a script with ours
still runs there, and what it says here only, wherever it stands, is stronger than its #SBATCH lines.
"""

from sshq.slurm.messages import (
    SCRIPT_BLANK,
    SCRIPT_DOS,
    SCRIPT_EMPTY,
    SCRIPT_NO_SHEBANG,
    SCRIPT_NUL,
    ExactError,
    make_error_lines,
)

SLURM_MARKERS = ("#SBATCH", "#SSHQ")  # weakest first, as below
FOREIGN_MARKERS = ("#PBS", "#BSUB")

# What of other systems' lines has a counterpart here.  Slurm reads more of it; scripts that rely on that are rare.
_PBS_OPTIONS = {
    "-N": "--job-name", "-o": "--output", "-e": "--error", "-q": "--partition", "-t": "--array", "-J": "--array",
    "-A": "--account",
}  # fmt: skip
_PBS_LIMITS = {"walltime": "--time", "mem": "--mem", "pmem": "--mem-per-cpu", "ncpus": "--cpus-per-task"}
_BSUB_OPTIONS = {
    "-J": "--job-name", "-o": "--output", "-e": "--error", "-i": "--input", "-q": "--partition", "-n": "--ntasks",
    "-cwd": "--chdir", "-m": "--nodelist",
}  # fmt: skip


class Directive:
    """One line: its marker, its words, its number (from 1) and itself, for messages."""

    __slots__ = ("line", "marker", "text", "words")

    def __init__(self, marker: str, words: list[str], line: int, text: str) -> None:
        self.marker = marker
        self.words = words
        self.line = line
        self.text = text


def check_script(script: bytes, program: str = "sbatch") -> None:
    """Refuse what Slurm refuses as a batch script, in its words.

    Raises:
        ExactError: empty, blank, no #!, NUL bytes, or lines that end as in DOS.
    """
    if not script:
        raise make_error_lines(program, (SCRIPT_EMPTY,))
    if not script.strip(b" \t\r\n\v\f"):
        raise make_error_lines(program, (SCRIPT_BLANK,))
    if not script.startswith(b"#!"):
        raise make_error_lines(program, SCRIPT_NO_SHEBANG)
    if b"\0" in script:
        raise make_error_lines(program, SCRIPT_NUL)
    if b"\r\n" in script:
        raise make_error_lines(program, SCRIPT_DOS)


def read_directives(script: str, name: str, program: str = "sbatch") -> list[Directive]:
    """Return the directives of a script in their order.

    Raises:
        ExactError: a quote is not closed.
    """
    directives = []
    for number, line in enumerate(script.split("\n"), 1):
        if not line.startswith("#"):
            content = line.strip()
            if content and not content.startswith("#"):
                break
            continue
        marker = next((mark for mark in (*SLURM_MARKERS, *FOREIGN_MARKERS) if line.startswith(mark)), None)
        rest = line[len(marker) :] if marker else ""
        if not marker or (rest and not rest[0].isspace()):
            continue
        try:
            words = split_words(rest)
        except ValueError as error:
            message = f"{program}: error: {name}: line {number}: {error} in [{rest.strip()}]"
            raise ExactError((message,), source=f"{name}:{number}") from None
        if marker == "#PBS":
            words = _translate(words, _PBS_OPTIONS)
        elif marker == "#BSUB":
            words = _translate(words, _BSUB_OPTIONS)
        if words:
            directives.append(Directive(marker, words, number, line.rstrip()))
    return directives


def split_words(text: str) -> list[str]:
    """Return the words of a directive: quotes and backslashes as in a shell, a word beginning with # ends it.

    Raises:
        ValueError: a quote is not closed.
    """
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    letters = iter(text)
    for letter in letters:
        if quote:
            if letter == quote:
                quote = ""
            elif letter == "\\" and quote == '"':
                (word := word or []).append(next(letters, "\\"))
            else:
                (word := word or []).append(letter)
        elif letter.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
        elif letter == "#" and word is None:
            break
        else:
            word = [] if word is None else word
            if letter in "'\"":
                quote = letter
            else:
                word.append(next(letters, letter) if letter == "\\" else letter)
    if quote:
        raise ValueError(f"Unmatched `{quote}`")
    if word is not None:
        words.append("".join(word))
    return words


def _translate(words: list[str], table: dict[str, str]) -> list[str]:
    translated = []
    rest = iter(words)
    for word in rest:
        option = table.get(word)
        if option:
            value = next(rest, None)
            if value is not None:
                translated.append(f"{option}={value}")
        elif word == "-l" and table is _PBS_OPTIONS:
            for part in next(rest, "").split(","):
                key, equals, value = part.partition("=")
                if equals and key in _PBS_LIMITS:
                    translated.append(f"{_PBS_LIMITS[key]}={value}")
        elif word == "-W" and table is _BSUB_OPTIONS:
            value = next(rest, "")  # minutes or HH:MM, which Slurm would read as MM:SS
            translated.append(f"--time={value}:00" if ":" in value else f"--time={value}")
        elif word == "-x" and table is _BSUB_OPTIONS:
            translated.append("--exclusive")
    return translated
