"""The relay's part of `--sync` and `--stage-in`: chunks of another machine's files for the controller's store here."""

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from sshq.tree.objects import Objects, parse_manifest

PIECE_BYTES_MAX = 256 << 20  # of a manifest of two million chunks; a chunk has 4 MiB at most


def find_lacking(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return which chunks are not in the store; those that are will not be taken for old."""
    objects = _open(request)
    return {"lacking": [digest for digest, size in request["chunks"] if not objects.holds(str(digest), int(size), touch=True)]}


def take_chunks(request: Mapping[str, Any], read: Callable[[int], bytes]) -> dict[str, Any]:
    """Take chunks in, each after its length in four bytes; all are durable when this is answered."""
    objects: Objects | None = None
    fault: OSError | None = None
    try:
        objects = _open(request)
        objects.make()
    except OSError as error:
        fault = error
    while length := int.from_bytes(read(4), "big"):
        data = read(min(length, PIECE_BYTES_MAX))
        if objects is not None and fault is None:
            try:
                objects.add(data)
            except OSError as error:
                fault = error
    if objects is not None:
        if fault is None:
            objects.flush()
        else:
            objects.forget()
    if fault is not None:
        raise fault
    return {}


def take_manifest(request: Mapping[str, Any], read: Callable[[int], bytes]) -> dict[str, Any]:
    """Take the list of a tree's chunks in, once all of them are there."""
    text = b""
    while length := int.from_bytes(read(4), "big"):
        text += read(min(length, PIECE_BYTES_MAX))
    objects = _open(request)
    if not all(objects.holds(*chunk, touch=True) for chunk in parse_manifest(text).chunks):
        raise OSError(errno.EAGAIN, "chunks are missing")
    return {"digest": objects.put_manifest(text)}


def _open(request: Mapping[str, Any]) -> Objects:
    directory = str(request["directory"])
    found = os.stat(directory)
    if found.st_uid != os.geteuid():
        raise OSError(errno.EACCES, f"it belongs to uid {found.st_uid}, you are uid {os.geteuid()} there")
    return Objects(directory)
