"""`sshq shared`: which hosts share a directory with this machine, and by what evidence.

What decides is, in this order: the inventory's word (`sshq_shared`); a nonce file that the host sees, or does not; and, where
nobody may write one, that the host has the directory from the same server and place, with the same inode and change time.
Network file system identity alone decides nothing, it is told beside.  Only the first two decide where jobs run.
"""

import asyncio
import os
import secrets
from collections.abc import Mapping
from typing import Any

from sshq.controller.fleet import Fleet
from sshq.controller.hosts import HostLink
from sshq.controller.submission import check_directory
from sshq.core.mounts import MOUNTINFO_BYTES_MAX, Match, compare, identify, parse_mountinfo
from sshq.errors import NodeError, RefusedError
from sshq.runner.mounts import Place, encode_question, is_whole, parse_answer
from sshq.wire.server import Peer, StreamOut

ANSWER_S = 15.0  # a file server that hangs
NOT_THERE = "the directory is not there"


class SharingDesk:
    """Asks all hosts at once; nothing of the answer is kept."""

    def __init__(self, *, fleet: Fleet) -> None:
        self._fleet = fleet

    async def shared(self, _peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Return what the directory is here, and of each host whether it shares it, by what evidence, and what it is there."""
        directory = check_directory(params)
        path = params.get("path")
        if directory is None and not isinstance(path, str):
            raise RefusedError("which directory?", code="bad_request")
        token = (directory[1], directory[2]) if directory is not None else (None, None)
        path = directory[0] if directory is not None else str(path)
        try:
            async with asyncio.timeout(ANSWER_S):
                here = await asyncio.to_thread(_look_here, path)
        except (OSError, TimeoutError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "its file server does not answer"
            raise RefusedError(f"{path}: {why}", code="bad_request") from None
        answers = await asyncio.gather(*[_ask(link, path, here, token) for link in self._fleet.links.values()])
        return {"path": path, "here": str(here.identity or "unknown"), "token": token[0] is not None, "hosts": answers}


def _look_here(path: str) -> Place:
    found = os.stat(path)
    if not os.path.isdir(path):
        raise NotADirectoryError(20, "Not a directory", path)
    with open("/proc/self/mountinfo", "rb") as file:
        table = file.read(MOUNTINFO_BYTES_MAX).decode("utf-8", "surrogateescape")
    identity = identify(parse_mountinfo(table), os.path.realpath(path))
    return Place(present=True, identity=identity, inode=found.st_ino, changed_ns=found.st_ctime_ns)


async def _ask(link: HostLink, path: str, here: Place, token: tuple[str | None, str | None]) -> dict[str, object]:
    name, nonce = token
    said: dict[str, object] = {"name": link.name, "shared": None, "evidence": "", "there": "", "identity": ""}
    declared = any(path == one or path.startswith(one.rstrip("/") + "/") for one in link.host.shared)
    if link.session is None:
        return said | ({"shared": True, "evidence": "declared"} if declared else {"note": link.note or "not connected"})
    place, seen = await asyncio.gather(_look_there(link, path), _see(link, path, name, nonce))
    match = compare(here.identity, place.identity) if place is not None and place.present else Match.UNKNOWN
    if place is not None:
        said["there"] = str(place.identity or "unknown") if place.present else NOT_THERE
        said["identity"] = match.value if place.present else ""
    if declared:
        return said | {"shared": True, "evidence": "declared"} | ({"note": "but does not see the token"} if seen is False else {})
    if seen is not None:
        return said | {"shared": seen, "evidence": "token"}
    if place is None:
        return said | {"note": "does not answer"}
    if not place.present:
        return said | {"shared": False, "evidence": "absent"}
    if match is Match.SAME and place.looks_as(here):
        return said | {"shared": True, "evidence": "identity"}
    return said


async def _see(link: HostLink, path: str, name: str | None, nonce: str | None) -> bool | None:
    if name is None or nonce is None:
        return None
    try:
        async with asyncio.timeout(ANSWER_S):
            return await link.prove(path, name, nonce)
    except TimeoutError:
        return None


async def _look_there(link: HostLink, path: str) -> Place | None:
    nonce = secrets.token_hex(8)
    data = b""
    try:
        question = encode_question(nonce, path)
        async with asyncio.timeout(ANSWER_S):
            channel, _ = await link.open_reader()
            try:
                channel.write(question)
                channel.write_eof()
                while not is_whole(data, nonce) and len(data) < MOUNTINFO_BYTES_MAX and (more := await channel.read()):
                    data += more
            finally:
                channel.close()
    except (NodeError, TimeoutError, ValueError):
        return None
    return parse_answer(data, nonce) if is_whole(data, nonce) else None
