"""An inventory without a disk: the seam `Files` filled from a mapping of paths to texts."""

import os

from sshq.inventory.load import load_inventory
from sshq.inventory.model import Inventory


class MemoryFiles:
    """Files in memory; a directory exists where a path has something below it."""

    def __init__(self, files: dict[str, str | bytes]) -> None:
        self._files = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}

    def read(self, path: str) -> bytes:
        if path not in self._files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self._files[path]

    def list_directory(self, path: str) -> list[str] | None:
        below = {os.path.relpath(p, path or ".").split("/")[0] for p in self._files if path and p.startswith(path + "/")}
        return sorted(below) or None


def load_text(text: str | bytes, **others: str) -> Inventory:
    """Load one inventory.yaml, with files beside it: group_vars__gpu_yaml="…"."""
    beside = {name.replace("__", "/").replace("_yaml", ".yaml"): data for name, data in others.items()}
    return load_inventory("inventory.yaml", files=MemoryFiles({"inventory.yaml": text, **beside}))
