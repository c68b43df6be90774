"""Lines, messages and JSON documents on their way to the terminal."""

import sys

from sshq.cli.terminal import show_controls, show_controls_in_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sshq.slurm.getopt import Parsed

PIPE_BUF = 4096  # so much a pipe takes at once where it takes anything
PIPE_ROOM = 32 << 10  # half of what a pipe takes that nobody reads


def print_lines(lines: "Iterable[str]") -> None:
    """Write lines to stdout, in pieces, so that a long listing begins at once and costs few writes."""
    for piece in _join_lines(lines):
        sys.stdout.write(piece)


def print_while_reading(lines: "Iterable[str]") -> None:
    """Write lines to stdout as they come, as far as it takes them at once, and the others when the last has come.

    Whoever reads slowly, as a pager does, must not make the command read slowly: the controller hangs up on who reads nothing.
    """
    write_while_reading(map(show_controls, _join_lines(lines)))


def write_while_reading(pieces: "Iterable[str]") -> None:
    """As `print_while_reading`, of text that is laid out already."""
    held: list[str] = []
    room = PIPE_ROOM
    for shown in pieces:
        room -= len(shown.encode(errors="replace")) if room > 0 else 0
        if room > 0:  # most answers: without a module to load
            sys.stdout.write(shown)
            sys.stdout.flush()
            continue
        import select

        size = PIPE_BUF if shown.isascii() else PIPE_BUF // 4
        held += [shown[start : start + size] for start in range(0, len(shown), size)]
        written = 0
        while written < len(held) and select.select((), (sys.stdout,), (), 0)[1]:
            sys.stdout.write(held[written])
            sys.stdout.flush()
            written += 1
        del held[:written]
    sys.stdout.write("".join(held))


def _join_lines(lines: "Iterable[str]") -> "Iterator[str]":
    piece: list[str] = []
    for line in lines:
        piece.append(line)
        if len(piece) == 500:
            yield "\n".join(piece) + "\n"
            piece.clear()
    if piece:
        yield "\n".join(piece) + "\n"


def print_messages(messages: "Iterable[str]") -> None:
    """Write complete lines to stderr, after what stdout holds so far."""
    lines = list(messages)
    if lines:
        sys.stdout.flush()
        sys.stderr.write("\n".join(lines) + "\n")


def print_json(document: "Mapping[str, object] | list[object]") -> None:
    """Write one JSON document to stdout."""
    import json

    sys.stdout.write(show_controls_in_json(json.dumps(document, indent=2, ensure_ascii=False)) + "\n")


def wants_document(parsed: "Parsed") -> bool:
    """Whether --json or --yaml was given."""
    return parsed.has("json") or parsed.has("yaml")


def print_document(document: "Mapping[str, object]", parsed: "Parsed") -> None:
    """Write a document to stdout, as YAML if --yaml was given, else as JSON."""
    if not parsed.has("yaml"):
        print_json(document)
        return
    from sshq.slurm.yamldoc import format_yaml

    sys.stdout.write(show_controls_in_json(format_yaml(document)))


def print_warnings(program: str, warnings: "Iterable[str]") -> None:
    """Write warnings to stderr as Slurm does."""
    print_messages(f"{program}: warning: {warning}" for warning in warnings)
