"""--yaml: the documents of --json as YAML 1.1 with a tag before each value, as Slurm's serializer writes them.

Standard library only: what a command prints must not cost it a YAML library at its start.
"""

import json
from collections.abc import Iterator, Mapping

_HEADER = "%YAML 1.1\n---"


def format_yaml(document: Mapping[str, object]) -> str:
    """Return a document of mappings, lists, texts, numbers, booleans and None, ending in a newline."""
    return "\n".join(_list_lines(document, 0, _HEADER)) + "\n...\n"


def _list_lines(value: object, depth: int, head: str) -> Iterator[str]:
    """Yield `head`, the value's tag and the value: behind it, or in the lines below."""
    indent = "  " * depth
    if isinstance(value, Mapping):
        yield f"{head} !!map" + ("" if value else " {}")
        for key, item in value.items():
            yield from _list_lines(item, depth + 1, f"{indent}{_tag(key)}:")
    elif isinstance(value, (list, tuple)):
        yield f"{head} !!seq" + ("" if value else " []")
        for item in value:
            yield from _list_lines(item, depth + 1, f"{indent}-")
    else:
        yield f"{head} {_tag(value)}"


def _tag(value: object) -> str:
    if value is None:
        return "!!null null"
    if isinstance(value, bool):
        return f"!!bool {'true' if value else 'false'}"
    if isinstance(value, int):
        return f"!!int {value}"
    if isinstance(value, float):
        return f"!!float {value}"
    text = str(value)
    plain = text.isascii() and text.replace("_", "").replace("-", "").isalnum() and text[0].isalpha()
    return f"!!str {text if plain else json.dumps(text)}"
