"""Reading one value: each reader takes the key's name and the node, and returns data or an error with its
place.

Texts are taken as written in the file, not as YAML 1.1 reads them: `1:00:00` is an hour, although Ansible's
own view of it is the number 3600, and a feature called 3.10 does not become 3.1.
"""

import os
import re
from collections.abc import Callable
from typing import Final

from sshq.core.gpus import COUNT_MAX, GpuLimit, count_of, parse_gpus
from sshq.core.licenses import parse_licenses
from sshq.core.units import parse_memory, parse_time_limit, suggest_time_limit
from sshq.inventory.document import Map, Node, Scalar, Seq, closest, describe, walk

Reader = Callable[[str, Node], object]


def refuse_template(name: str, node: Node) -> None:
    """Refuse a value that only Ansible could work out: a Jinja expression or a vaulted text."""
    for scalar in walk(node):
        if scalar.mark == "vault":
            raise scalar.place.error(f"`{name}` is encrypted (!vault)", hint="write it in clear")
        if not scalar.mark and isinstance(scalar.value, str) and re.search(r"\{\{|\{%|\{#", scalar.value):
            message = f"`{name}` holds a Jinja expression, which only Ansible can work out"
            raise scalar.place.error(message, hint="write the value itself")


def read_text(name: str, node: Node) -> str:
    """Return a non-empty text on one line, as it was written."""
    if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bytes):
        raise node.place.error(f"`{name}` is a text, not {describe(node)}")
    text = node.text.strip()
    if not text:
        raise node.place.error(f"`{name}` is empty")
    if not text.isprintable():
        raise node.place.error(f"`{name}` holds a control character or a line break")
    return text


def read_account(name: str, node: Node) -> str:
    """Return the name of an account."""
    text = read_text(name, node)
    if text.startswith("-") or re.search(r"\s|[:/]", text):
        raise node.place.error(f"`{name}` is the name of an account, not {describe(node)}")
    return text


def read_integer(low: int, high: int) -> Reader:
    """Return the parser of a whole number between two bounds."""

    def parse(name: str, node: Node) -> int:
        text = node.text.strip() if isinstance(node, Scalar) else ""
        # YAML 1.1 takes 010 for eight: a leading zero is refused rather than guessed about.
        if not re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,11})", text) or not low <= int(text) <= high:
            message = f"`{name}` is a whole number from {low} to {high}, not {describe(node)}"
            raise node.place.error(message)
        return int(text)

    return parse


def read_boolean(name: str, node: Node) -> bool:
    """Return a truth value; quoted ones count, as Ansible itself passes such strings on."""
    if isinstance(node, Scalar):
        if isinstance(node.value, bool):
            return node.value
        word = node.text.strip().lower()
        if word in ("true", "yes", "on", "false", "no", "off"):
            return word in ("true", "yes", "on")
    raise node.place.error(f"`{name}` is true or false, not {describe(node)}")


def read_choice(*choices: str) -> Reader:
    """Return the parser of one word of several; case does not matter."""

    def parse(name: str, node: Node) -> str:
        text = read_text(name, node)
        known = {choice.lower(): choice for choice in choices}
        if text.lower() not in known:
            near = closest(text.lower(), known, cutoff=0.5)
            message = f"`{name}` is {', '.join(choices[:-1])} or {choices[-1]}, not {describe(node)}"
            raise node.place.error(message, suggestion=known[near] if near else None)
        return known[text.lower()]

    return parse


def read_license_counts(name: str, node: Node) -> str:
    """Return a list of licenses as Slurm writes it: matlab:4,fluent."""
    text = read_text(name, node)
    try:
        parse_licenses(text)
    except ValueError as error:
        raise node.place.error(f"`{name}`: {error}", suggestion="matlab:4,fluent:2") from None
    return text


def read_time(name: str, node: Node) -> int | None:
    """Return a time limit in seconds, None for none; the forms are Slurm's."""
    text = read_text(name, node)
    try:
        return parse_time_limit(text)
    except ValueError as error:
        near = suggest_time_limit(text)
        raise node.place.error(f"`{name}`: {_reason(error, text)}", suggestion=near) from None


def read_memory(name: str, node: Node) -> int:
    """Return an amount of memory in MiB, at least 1."""
    text = read_text(name, node)
    try:
        amount = parse_memory(text)
    except ValueError as error:
        near = None
        if fraction := re.fullmatch(r"([0-9]{1,6}\.[0-9]{1,3})([GT])B?", text.upper()):
            near = f"{int(float(fraction[1]) * 1024)}{'M' if fraction[2] == 'G' else 'G'}"
        raise node.place.error(f"`{name}`: {_reason(error, text)}", suggestion=near) from None
    if amount < 1:
        raise node.place.error(f"`{name}` is at least 1M, not {describe(node)}")
    return amount


def read_gpus(name: str, node: Node) -> GpuLimit:
    """Return which GPUs may be handed out: 2, a100:2, {a100: 2, v100: 1}, or a list of UUIDs or indices."""
    hint = f"{name}: 2, or {name}: a100:2"
    if isinstance(node, Map):
        read_count = read_integer(0, COUNT_MAX)
        counts = {entry.name: int(str(read_count(f"{name}: {entry.name}", entry.value))) for entry in node.entries}
        for entry in node.entries:
            if not re.fullmatch(r"[A-Za-z][\w.-]*", entry.name, re.ASCII):
                raise entry.key.place.error(f"`{name}` maps types of GPUs to numbers, and `{entry.name}` is no type", hint=hint)
        return GpuLimit(types=tuple(sorted((kind.lower(), count) for kind, count in counts.items() if count)))
    if isinstance(node, Seq):
        ids = [(item, read_text(name, item)) for item in node.items]
        for item, text in ids:
            if not re.fullmatch(r"[0-9]{1,3}|[A-Za-z0-9][\w:.-]{4,99}", text, re.ASCII):
                raise item.place.error(f"`{name}` lists UUIDs or indices of GPUs, not `{text}`", hint=f"{name}: [0, 2]")
        return GpuLimit(ids=tuple(dict.fromkeys(text for _, text in ids))) if ids else GpuLimit(count=0)
    text = read_text(name, node)
    if not re.fullmatch(r"(?:[A-Za-z][\w.-]*:)?[0-9]{1,3}", text, re.ASCII):
        raise node.place.error(f"`{name}` is a number of GPUs or TYPE:NUMBER, not {describe(node)}", hint=hint)
    wanted = parse_gpus(text)
    return GpuLimit(types=wanted) if ":" in text and wanted else GpuLimit(count=count_of(wanted))


def read_words(name: str, node: Node) -> tuple[str, ...]:
    """Return words, from a list or from one text with commas; each once, in order."""
    if isinstance(node, Seq):
        items = [(item, read_text(name, item)) for item in node.items]
    else:
        items = [(node, word.strip()) for word in read_text(name, node).split(",")]
    for item, word in items:
        if not re.fullmatch(r"[A-Za-z0-9_][\w.:+-]*", word, re.ASCII):
            message = f"`{name}` holds words of letters, digits and _ . : + -, not `{word}`"
            raise item.place.error(message)
    return tuple(dict.fromkeys(word for _, word in items))


def read_directory(name: str, node: Node) -> str:
    """Return a directory on a node: absolute, or below the account's home as ~/…; no trailing slash."""
    text = read_text(name, node)
    if not (text.startswith(("/", "~/")) or text == "~"):
        near = f"/{text}" if "/" in text and not text.startswith(("~", ".", "$")) else None
        raise node.place.error(f"`{name}` is an absolute path or ~/…, not {describe(node)}", suggestion=near)
    if any(part in (".", "..") for part in text.split("/")):
        raise node.place.error(f"`{name}` must not contain . or ..")
    return re.sub(r"/+", "/", text).rstrip("/") or "/"


def read_directories(name: str, node: Node) -> tuple[str, ...]:
    """Return one directory or a list of them."""
    items = node.items if isinstance(node, Seq) else (node,)
    return tuple(dict.fromkeys(read_directory(name, item) for item in items))


def read_environment(name: str, node: Node) -> tuple[tuple[str, str], ...]:
    """Return variables for the environment, sorted by name."""
    if not isinstance(node, Map):
        message = f"`{name}` is a mapping of variables, not {describe(node)}"
        raise node.place.error(message, suggestion="{NAME: value}")
    for entry in node.entries:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", entry.name):
            raise entry.key.place.error(f"`{entry.key.text}` cannot name an environment variable")
        if entry.name.startswith(("SSHQ_", "SLURM_")):
            raise entry.key.place.error(f"`{entry.name}` is set by sshq itself")
        if not isinstance(entry.value, Scalar) or isinstance(entry.value.value, bytes) or "\0" in entry.value.text:
            message = f"the value of {entry.name} is a text, not {describe(entry.value)}"
            raise entry.value.place.error(message)
    values = {entry.name: entry.value.text for entry in node.entries if isinstance(entry.value, Scalar)}
    return tuple(sorted(values.items()))


def _reason(error: ValueError, text: str) -> str:
    return str(error).removeprefix(f"{text!r}: ").strip()


def read_local_path(name: str, node: Node) -> str:
    """Return a path on this machine: absolute, a leading ~/ expanded."""
    text = read_directory(name, node)
    return os.path.expanduser(text)


def read_size(low: int, high: int, *, unit: int = 1) -> Reader:
    """Return the parser of 512K, 4M, 1G as a number of `unit` bytes; a bare number counts megabytes."""

    def parse(name: str, node: Node) -> int:
        text = read_text(name, node)
        found = re.fullmatch(r"([0-9]{1,9})([KMG]?)B?", text.upper())
        amount = int(found[1]) << {"K": 10, "": 20, "M": 20, "G": 30}[found[2]] if found else -1
        if not low <= amount <= high or amount % unit:
            bounds = f"from {_format_size(low)} to {_format_size(high)}"
            raise node.place.error(f"`{name}` is a size like 4M, {bounds}, not {describe(node)}")
        return amount // unit

    return parse


def _format_size(amount: int) -> str:
    return f"{amount >> 20}M" if amount >= 1 << 20 else f"{amount >> 10}K"


_DURATION_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def read_duration(low_s: int, high_s: int, *, never: bool = False) -> Reader:
    """Return the parser of 90, 30s, 15m, 24h, 7d, 2w in seconds; with `never`, None for that word."""

    def parse(name: str, node: Node) -> int | None:
        text = read_text(name, node).lower()
        if never and text == "never":
            return None
        found = re.fullmatch(r"([0-9]{1,9})\s*([smhdw]?)", text)
        amount = int(found[1]) * _DURATION_UNITS_S[found[2]] if found else -1
        if not low_s <= amount <= high_s:
            bounds = f"from {format_duration(low_s)} to {format_duration(high_s)}{', or never' if never else ''}"
            raise node.place.error(f"`{name}` is a time like 30s, 15m, 24h or 7d, {bounds}, not {describe(node)}")
        return amount

    return parse


def format_duration(amount_s: int | None) -> str:
    """Return seconds as `read_duration` takes them, in the largest unit that leaves a whole number."""
    if amount_s is None:
        return "never"
    for unit in ("w", "d", "h", "m"):
        if amount_s and amount_s % _DURATION_UNITS_S[unit] == 0:
            return f"{amount_s // _DURATION_UNITS_S[unit]}{unit}"
    return f"{amount_s}s"
