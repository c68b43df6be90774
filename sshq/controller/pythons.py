"""Hosts asked for the interpreters that calls need: at a submission, and when they connect while jobs wait."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from sshq.controller.hosts import HostLink
from sshq.controller.mailbox import Mailbox
from sshq.core.admission import resolve
from sshq.core.cluster import Cluster
from sshq.core.effects import AskPythons
from sshq.core.events import PythonFound
from sshq.core.interpreters import nodes_to_ask, why_nowhere
from sshq.core.model import JobSpec
from sshq.core.pythons import PythonAnswer, choose, read_need, read_requirement
from sshq.errors import NodeError, NoReplyError, RefusedError
from sshq.runner.pythons import encode_pythons, read_pythons
from sshq.runner.replies import FactsReply

log = logging.getLogger("sshq.pythons")
ANSWER_S = 8.0  # a host that does not answer in time is not known, for now; it is listened to all the same


class PythonDesk:
    """Asks hosts, and refuses a call that no host can run."""

    def __init__(self, mailbox: Mailbox, links: Mapping[str, HostLink], clock: Callable[[], float]) -> None:
        self._mailbox = mailbox
        self._links = links
        self._clock = clock
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def start(self, effect: AskPythons) -> None:
        """Carry out `AskPythons`."""
        for need in effect.needs:
            self._ask(effect.node, need)

    async def check(self, spec: JobSpec) -> str | None:
        """Ask the hosts that a job may go to, and return a warning where it may have to wait long.

        Raises:
            RefusedError: none of them has the Python it needs; it says what each has.

        """
        if spec.python is None:
            return None

        def question(cluster: Cluster) -> tuple[JobSpec, list[str]]:
            resolved = resolve(cluster, spec, held=True)
            return resolved, nodes_to_ask(cluster, resolved, self._clock())

        resolved, names = await self._mailbox.ask(question)
        tasks = [self._ask(name, spec.python) for name in names]
        if tasks:
            await asyncio.wait(tasks, timeout=ANSWER_S)
        text, certain = await self._mailbox.ask(lambda cluster: why_nowhere(cluster, resolved))
        if certain:
            raise RefusedError(
                text, code="bad_request",
                hint="sshq_python in the inventory, python=PATH, or another partition",
            )  # fmt: skip
        return text or None

    def _ask(self, name: str, need: str) -> asyncio.Task[None]:
        """Ask one host for one need, once at a time."""
        task = self._tasks.get((name, need))
        if task is None:
            task = asyncio.create_task(self._find(name, need))
            self._tasks[name, need] = task
            task.add_done_callback(lambda _: self._tasks.pop((name, need), None))
        return task

    async def _find(self, name: str, need_text: str) -> None:
        link = self._links.get(name)
        session = link.session if link is not None else None
        if link is None or session is None or not session.ready:
            return  # it is asked when it is back
        need = read_need(need_text)
        own = link.host.python or ""
        candidates = list(dict.fromkeys(one for one in ((one or own) for one in need.candidates) if one))
        names = [read_requirement(one)[0] for one in need.requires]
        try:
            reply = await session.call(lambda tag: encode_pythons(tag=tag, names=names, candidates=candidates), FactsReply)
        except NoReplyError:
            answer = PythonAnswer(path=None, detail="did not say what it has")
        except NodeError as error:
            log.info("host=%s python: %s", name, error.message)
            return
        else:
            answer = choose(need, read_pythons(reply.facts))
        if link.session is not session:
            return  # another connection: perhaps another machine
        if answer.path is not None:
            link.pythons[need_text] = answer.path
        else:
            link.pythons.pop(need_text, None)
        log.info("host=%s python=%s %s", name, answer.path, answer.detail)
        self._mailbox.post(PythonFound(now=self._clock(), node=name, need=need_text, answer=answer))
