"""What is to be said of the GPUs of a host, beside its name."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def read_notes(host: "Mapping[str, object]") -> list[str]:
    """Return the lines of a host's view: who else uses its GPUs, and what is not as it should be."""
    notes = host.get("gpu_notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []
