"""A snapshot: a tree as it is now, in the store of chunks, under a name that its content gives it."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from sshq.errors import OptionError
from sshq.tree.objects import Objects, explain_room, format_manifest
from sshq.tree.pack import END, RACY_NS, Progress, cut, read_piece
from sshq.tree.walk import Entry, find_below, merge, walk_files, walk_sync, way_to


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was made: the tree's name, its members, its bytes, and how many of them had to be read and were new.

    `below` is the directory in it that stands for the working directory, "" for its top.
    """

    digest: str
    files: int
    bytes: int
    bytes_read: int
    bytes_new: int
    below: str = ""


def take_snapshot(
    objects: Objects, work_dir: str, *, sync: str | None, stage_in: Sequence[str], progress: Progress | None = None
) -> Snapshot:
    """Put a tree, files that were named, or both into the store.

    Args:
        objects: the store; what it has already is not written again, and what did not change not even read.
        work_dir: where paths begin, and where the files that are named have their place; it keeps its own in the tree of `sync`.
        sync: the directory whose tree it is, None for none.
        stage_in: files and directories to take along.
        progress: told how far it is.

    Raises:
        OptionError: what cannot be taken along, or there is no room for it.
    """
    home = os.fsencode(work_dir)
    tree, top, below = [], home, b""
    if sync is not None:
        tree = walk_sync(os.path.join(home, os.fsencode(sync)))
        top, below = find_below(os.path.join(home, os.fsencode(sync)), home)
        tree = merge(tree, way_to(below, top))  # an ignored one too: the job starts there
    named = walk_files([os.fsencode(path) for path in stage_in], home, top=top, below=below) if stage_in else []
    entries = merge(tree, named)
    if not entries:
        raise OptionError("--sync: there is nothing in the directory that could be taken along", source="--sync")
    name = sha256(repr((home, sync, tuple(stage_in))).encode("utf-8", "surrogateescape")).hexdigest()
    try:
        return replace(_store(objects, entries, name, progress), below=os.fsdecode(below))
    except OSError as error:
        raise explain_room(error, objects.directory, sum(entry.size for entry in entries)) from None
    finally:
        objects.forget()


def _store(objects: Objects, entries: list[Entry], name: str, progress: Progress | None) -> Snapshot:
    objects.make()
    pieces = list(cut(entries))
    total = sum(piece.length for piece in pieces)
    known, kept, chunks = objects.read_stats(name), {}, []
    done = read = new = 0
    for piece in pieces:
        key = piece.key
        found = known.get(key)
        if found is None or not objects.holds(*found, touch=True):
            started_ns = time.time_ns()
            data = read_piece(piece)
            read += len(data)
            digest, is_new = objects.add(data)
            new += len(data) if is_new else 0
            found = digest, len(data)
            if not piece.touched_since(started_ns - RACY_NS):
                kept[key] = found
        else:
            kept[key] = found
        chunks.append(found)
        done += piece.length
        if progress is not None:
            progress(done, total)
    chunks.append((objects.add(END)[0], len(END)))
    objects.flush()
    digest = objects.put_manifest(format_manifest(len(entries), chunks))
    if kept != known:
        objects.write_stats(name, kept)
    return Snapshot(digest, len(entries), sum(size for _, size in chunks), read, new)
