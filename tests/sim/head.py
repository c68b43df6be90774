"""The head node: the real controller, started, killed and asked in the simulated world."""

import argparse
import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sshq.controller.daemon import Controller
from sshq.errors import SshqError
from sshq.inventory.config import Config
from sshq.store.database import FatalStoreError
from sshq.store.jobs import Store
from sshq.wire.server import Peer

from .clock import Killed, Process
from .net import SimTransports
from .node import EPOCH_AT

if TYPE_CHECKING:
    from .world import World

PEER = Peer(uid=os.getuid(), gid=os.getgid(), pid=1)
STORE_ID = "5" * 32


class HangUp(Exception):
    """The controller is not there, or went away before it answered."""


class Door:
    """In the place of the socket: clients call `dispatch` directly."""

    def __init__(self, head: "Head", dispatch: Callable[..., Awaitable[Mapping[str, object]]]) -> None:
        self.head = head
        self.dispatch = dispatch

    async def start(self) -> None:
        self.head.door = self
        await asyncio.sleep(0)

    async def close(self) -> None:
        if self.head.door is self:
            self.head.door = None
        await asyncio.sleep(0)


class NoStream:
    """What a client would read of a stream."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def rows(self, rows: list[Any]) -> None:
        await self.items([{"rows": rows}])

    async def items(self, items: list[Any]) -> None:
        self.got += items

    async def data(self, *pieces: bytes) -> None:
        self.got += pieces


class SimController(Controller):
    """The controller with another world around it; nothing of its own is changed."""

    def __init__(self, head: "Head", arguments: argparse.Namespace, config: Config) -> None:
        super().__init__(arguments, config, clock=head.clock, random=head.world.random.randbytes)
        self.head = head
        self.process: Process | None = None
        self.crash = head.pass_point

    def _make_transports(self) -> Any:
        return SimTransports(self.head.world)

    def _make_server(self, service: Any) -> Any:
        return Door(self.head, service.dispatch)

    def _end_process(self) -> None:
        assert self.process is not None
        self.process.kill()
        raise Killed


class Head:
    """One machine, at most two controllers on it: the present one, and one that has lost its store and not noticed yet."""

    def __init__(self, world: "World", directory: Path, config: Config) -> None:
        self.world = world
        self.state = directory / "state"
        self.inventory = directory / "inventory.yaml"
        self.config = config
        self.skew_s = 0.0
        self.process: Process | None = None
        self.controller: SimController | None = None
        self.door: Door | None = None
        self.starts = 0
        self.kills = 0
        self.fatal: list[str] = []
        self.point: tuple[str, int] | None = None  # die there, the n-th time it is reached
        shutil.copytree(_empty_state(), self.state)
        self.write_inventory(world.inventory)

    def clock(self) -> float:
        return EPOCH_AT + self.world.loop.time() + self.skew_s

    def write_inventory(self, hosts: Mapping[str, str]) -> None:
        """`hosts`: name -> further keys, as YAML."""
        lines = ["all:", "  vars:", "    sshq_nice: 10", "  hosts:"]
        for name, keys in hosts.items():
            lines += [f"    {name}:", *(f"      {key}" for key in keys.split("; ") if key)]
        aside = self.inventory.with_suffix(".new")
        aside.write_text("\n".join(lines) + "\n")
        at = self.world.loop.time()
        os.utime(aside, (1_000_000 + at, 1_000_000 + at))
        aside.rename(self.inventory)

    # ---- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a controller on whatever the state directory holds."""
        self.starts += 1
        arguments = argparse.Namespace(
            state=str(self.state), socket=str(self.state / "sock"), inventory=str(self.inventory), home=None
        )
        process = Process(f"controller-{self.starts}")
        self.process = process
        self.controller = controller = SimController(self, arguments, self.config)
        controller.process = process
        controller.store.run = _watched(self.world, controller.store.run)  # type: ignore[method-assign]
        self.world.note(f"head: controller {self.starts} starts")
        task = process.spawn(self.world.loop, controller.run())
        task.add_done_callback(lambda t: self._ended(process, controller, t))
        process.on_death.append(lambda: _drop_store(controller))

    def _ended(self, process: Process, controller: SimController, task: "asyncio.Task[int]") -> None:
        if process is self.process:
            self.door = None
        if not process.alive or task.cancelled():
            return
        error = task.exception()
        process.kill()
        if error is not None:
            self.world.note(f"head: {process.name} ended: {error!r}")
            self.fatal.append(f"{process.name} ended with {error!r}")

    def kill(self, why: str) -> None:
        process = self.process
        if process is not None and process.alive:
            self.kills += 1
            self.world.note(f"head: {process.name} killed ({why})")
            self.door = None
            process.kill()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    async def stop(self) -> None:
        """An orderly end."""
        if self.controller is None or not self.alive:
            return
        process = self.process
        assert process is not None
        self.world.note("head: sshq down")
        self.controller.stop("asked")
        for _ in range(600):
            if not process.alive:
                return
            await asyncio.sleep(0.1)
        self.world.problem("stuck", "the controller did not stop within a minute")

    def pass_point(self, name: str) -> None:
        """A crash point of the real code."""
        from .clock import PROCESS

        process = PROCESS.get()
        if process is not None and not process.alive:
            raise Killed
        if self.point is None or self.point[0] not in (name, "any") or process is not self.process:
            return
        wanted, left = self.point
        if left > 1:
            self.point = (wanted, left - 1)
            return
        self.point = None
        self.world.injected[f"kill at {name}"] += 1
        self.kill(f"at {name}")
        raise Killed

    def restore(self, backup: Path) -> None:
        from sshq.store.restore import restore_backup

        restore_backup(self.state, backup)

    # ---- clients ---------------------------------------------------------------------------------------------

    async def ask(self, method: str, params: dict[str, object]) -> Mapping[str, Any]:
        """One request of a client.  Raises HangUp where no answer came, SshqError where the controller said no."""
        door, process = self.door, self.process
        if door is None or process is None or not process.alive:
            raise HangUp
        await asyncio.sleep(0.001)
        if not process.alive:
            raise HangUp
        stream = NoStream()
        task = process.spawn(self.world.loop, door.dispatch(PEER, method, params, stream))  # type: ignore[arg-type]
        await asyncio.wait({task}, timeout=120)
        if not task.done():
            task.cancel()
            raise HangUp
        if task.cancelled() or not process.alive:
            with contextlib.suppress(BaseException):
                task.exception()
            raise HangUp
        error = task.exception()
        if error is None:
            return {**task.result(), "items": stream.got}
        if isinstance(error, SshqError) and not isinstance(error, FatalStoreError):
            raise error
        if not isinstance(error, SshqError):
            self.world.problem("bug", f"{method} failed with {error!r}")
        raise HangUp


def _drop_store(controller: SimController) -> None:
    """What the kernel does with the files of a killed process: nothing that was not committed is kept."""
    store = controller.store._store
    controller.store._store = None
    if store is not None:
        store.close()
    controller.store._pool.shutdown(wait=False)


def _watched(world: "World", run: Callable[..., Any]) -> Callable[..., Any]:
    """Let the oracle look right after each piece of work of the store."""

    async def watched(work: Callable[[Store], Any]) -> Any:
        def and_look(store: Store) -> Any:
            result = work(store)
            world.after_store(store)
            return result

        return await run(and_look)

    return watched


@cache
def _empty_state() -> Path:
    """A state directory with an empty store of a fixed id, made once a process: ids then depend on the seed alone."""
    import atexit

    base = Path(tempfile.mkdtemp(prefix="sshq-sim-empty-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    state = base / "state"
    state.mkdir(mode=0o700)
    store = Store.open(state, create=True)
    store._connection.execute("UPDATE store SET store_id = ?", (STORE_ID,))
    store.close()
    (state / "store_id").write_text(STORE_ID + "\n")
    (state / "reserve").unlink(missing_ok=True)
    with open(state / "reserve", "wb") as file:  # sparse: it need not really take room
        file.truncate(16 << 20)
    return state
