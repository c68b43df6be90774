"""Lines, messages and JSON documents on their way to the terminal."""

import sys

from sshq.cli.terminal import show_controls_in_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sshq.slurm.getopt import Parsed


def print_lines(lines: "Iterable[str]") -> None:
    """Write lines to stdout, in pieces, so that a long listing begins at once and costs few writes."""
    piece: list[str] = []
    for line in lines:
        piece.append(line)
        if len(piece) == 500:
            sys.stdout.write("\n".join(piece) + "\n")
            piece.clear()
    if piece:
        sys.stdout.write("\n".join(piece) + "\n")


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
