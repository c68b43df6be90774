"""What clients may ask: one short method a request, after two questions: may this peer ask it, and is it well formed.

Identity is the kernel's word (SO_PEERCRED).  In this release jobs run as the controller's account, so only that uid and
root submit, cancel and read output; others may list where the configuration says so.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sshq.controller.eventdesk import EventDesk
from sshq.controller.filedesk import FileDesk
from sshq.controller.history import HistoryDesk
from sshq.controller.hostdesk import HostDesk
from sshq.controller.interactdesk import InteractDesk
from sshq.controller.jobdesk import JobDesk
from sshq.controller.logdesk import LogDesk
from sshq.controller.provenance import ProvenanceDesk
from sshq.controller.purging import RemovalDesk
from sshq.controller.requests import check_request
from sshq.controller.sharing import SharingDesk
from sshq.controller.stats import StatsDesk, clock
from sshq.controller.stepdesk import StepDesk
from sshq.controller.submitdesk import SubmitDesk
from sshq.errors import RefusedError, SshqError
from sshq.wire.server import Peer, StreamOut

log = logging.getLogger("sshq.service")

Handler = Callable[[Peer, Mapping[str, Any], StreamOut], Awaitable[Mapping[str, object]]]

# May anybody list?  Reading (names, states) can be opened to others by the configuration; all else cannot.
READING = frozenset({"jobs", "steps", "info", "status", "hosts", "history", "why", "wait", "events", "ping", "stats"})


# Answered without the queue.
STORED_ALREADY = frozenset({"ping", "down", "history", "provenance", "script", "logs", "controller_log"})

# Whoever asks these looks at a moment and changes nothing: better refused than left waiting for room on a disk.
LOOKING = frozenset({"jobs", "steps", "info", "status", "hosts", "why", "stats"})


class Service:
    """Routes a request to its desk."""

    def __init__(
        self, *, submit: SubmitDesk, jobs: JobDesk, hosts: HostDesk, removal: RemovalDesk, history: HistoryDesk,
        logs: LogDesk, files: FileDesk, events: EventDesk, steps: StepDesk, interact: InteractDesk,
        provenance: ProvenanceDesk, sharing: SharingDesk, stats: StatsDesk,
        note_request: Callable[[str, float], None], others_may_list: bool,
        shut_down: Callable[[], None], waiting_for: Callable[[], SshqError | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._others_may_list = others_may_list
        self._waiting_for = waiting_for  # why nothing can be stored at the moment
        self._shut_down = shut_down
        self._note_request = note_request
        self._looking: dict[asyncio.Task[object], bool] = {}  # who looks at the queue just now, and: was called off
        self._handlers: dict[str, Handler] = {
            "ping": self._ping,
            "down": self._down,
            "submit": submit.submit,
            "submit_many": submit.submit_many,
            "jobs": jobs.jobs,
            "wait": jobs.wait,
            "events": events.events,
            "why": jobs.why,
            "cancel": jobs.cancel,
            "hold": jobs.hold,
            "release": jobs.release,
            "requeue": jobs.requeue,
            "suspend": jobs.suspend,
            "resume": jobs.resume,
            "top": jobs.top,
            "update_job": jobs.update,
            "purge": jobs.purge,
            "script": jobs.script,
            "history": history.history,
            "provenance": provenance.provenance,
            "steps": steps.steps,
            "cancel_steps": steps.cancel_steps,
            "info": hosts.info,
            "hosts": hosts.hosts,
            "hosts_retry": hosts.retry,
            "hosts_accept": hosts.accept,
            "hosts_remove": removal.remove,
            "update_node": hosts.update_node,
            "update_partition": hosts.update_partition,
            "reservation": hosts.reservation,
            "reload": hosts.reload,
            "doctor": hosts.doctor,
            "shared": sharing.shared,
            "status": hosts.status,
            "stats": stats.stats,
            "logs": logs.logs,
            "controller_log": logs.controller_log,
            "job_files": files.job_files,
            "job_file": files.job_file,
            "follow_job": interact.follow_job,
            "part_start": interact.part_start,
            "part_output": interact.part_output,
            "part_input": interact.part_input,
            "part_signal": interact.part_signal,
            "finish": interact.finish,
            "attach": interact.attach,
            "attach_input": interact.attach_input,
        }

    async def dispatch(self, peer: Peer, method: str, params: dict[str, object], stream: StreamOut) -> Mapping[str, object]:
        """Answer one request.  Raises SshqError; the wire turns it into an error reply."""
        ours = peer.uid in (0, os.getuid())
        if not ours and not (self._others_may_list and method in READING):
            raise RefusedError(
                "Access/permission denied", code="denied",
                detail=(f"this controller belongs to uid {os.getuid()}; you are uid {peer.uid}",),
                hint="others_may_list: true in config.yaml opens listing" if method in READING else None,
            )  # fmt: skip
        check_request(method, params)
        full = self._waiting_for()
        if full is not None and method not in STORED_ALREADY:
            raise _not_now(full)
        before = clock()
        task = asyncio.current_task() if method in LOOKING else None
        if task is not None:
            self._looking[task] = False
        try:
            return await self._handlers[method](peer, params, stream)
        except asyncio.CancelledError:
            full = self._waiting_for()
            if task is None or full is None or not self._looking[task]:
                raise
            task.uncancel()
            raise _not_now(full) from None
        finally:
            if task is not None:
                del self._looking[task]
            self._note_request(method, clock() - before)

    def store_filled(self) -> None:
        """No room for the store from now on: refuse those that look at the queue and came too early to be told so."""
        for task in self._looking:
            if not self._looking[task]:
                self._looking[task] = True
                task.cancel()

    async def _ping(self, _peer: Peer, _params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        from sshq import __version__

        return {"version": __version__}

    async def _down(self, peer: Peer, _params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        log.info("asked to stop by uid=%d", peer.uid)
        asyncio.get_running_loop().call_later(0.05, self._shut_down)
        return {}


def _not_now(full: SshqError) -> RefusedError:
    detail = ("Running jobs go on; everything here waits until there is room.",)
    return RefusedError(full.message, code="not_now", detail=detail, hint=full.hint)
