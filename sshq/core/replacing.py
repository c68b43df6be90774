"""`replace` of dataclasses, five times as fast for records: frozen, with slots, checked nowhere, and with forty fields each.

A job changes some ten times in its life, and the ordinary one sets each field of each change by a Python call.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # mypy knows the fields that the ordinary one takes
    from dataclasses import replace
else:

    def replace(record: object, /, **changes: object) -> object:
        """Return a copy of `record` with these fields changed.  Raises TypeError for a field it does not have."""
        copy, setters = copier(type(record))
        new = copy(record)
        try:
            for name, value in changes.items():
                setters[name](new, value)
        except KeyError as error:
            raise TypeError(f"{type(record).__name__} has no field {error}") from None
        return new


__all__ = ["copier", "replace"]


@cache
def copier(kind: type) -> tuple[Callable[[object], object], dict[str, Callable[[object, object], None]]]:
    """Return what copies a record of this kind, and what sets each field of a copy that nobody has seen yet."""
    names = [f.name for f in fields(kind)]
    if "__slots__" not in kind.__dict__ or hasattr(kind, "__post_init__"):
        raise TypeError(f"{kind.__name__} is no plain record with slots")
    setters = {name: getattr(kind, name).__set__ for name in names}
    lines = [f"    set_{name}(new, old.{name})" for name in names]
    source = "\n".join(["def copy(old):", "    new = make(kind)", *lines, "    return new"])
    scope: dict[str, Any] = {"make": object.__new__, "kind": kind, **{f"set_{name}": setters[name] for name in names}}
    exec(source, scope)  # noqa: S102 - the names of our own fields, as dataclasses does it
    return scope["copy"], setters
