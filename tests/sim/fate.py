"""What each fault does; users' words are in words.py.  The numbers a, b, c of a step choose whom and for how long.

A fault counts as injected only where it met something: a process that lived, a path that was whole.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from . import words
from .choose import done, node_of, path_of, pick, span
from .node import Proc
from .plan import HEAD_POINTS, Step

if TYPE_CHECKING:
    from .world import World

Fate = Callable[["World", Step], Awaitable[None]]


async def carry_out(world: "World", step: Step) -> None:
    world.note(f"fate: {step}")
    await FATES[step.kind](world, step)


# ---- the head ----------------------------------------------------------------------------------------------------


async def kill_head(world: "World", step: Step) -> None:
    while not world.head.alive:
        await asyncio.sleep(0.5)
    done(world, step)
    world.head.kill("at random")


async def kill_head_at_point(world: "World", step: Step) -> None:
    point = pick([*HEAD_POINTS, "any", "any", "any", "any"], step.b)
    world.head.point = (point, 1 + int(step.c * step.c * (60 if point == "any" else 6)))
    await asyncio.sleep(300)
    if world.head.point is not None and world.head.point[0] == point:
        world.head.point = None


async def stop_head(world: "World", step: Step) -> None:
    if world.head.alive:
        done(world, step)
        await world.head.stop()


async def second_head(world: "World", step: Step) -> None:
    """The lock failed: a second controller opens the same store while the first one runs."""
    if world.head.alive:
        done(world, step)
        world.head.start()
        await asyncio.sleep(0)


async def restore(world: "World", step: Step) -> None:
    """The head's store is lost and an older backup put in its place."""
    head = world.head
    backup = world.base / f"backup{step.number}.db"
    if head.controller is None or not head.alive or head.controller.store._store is None:
        return
    world.note("head: backup")
    head.controller.store._store.backup(backup)
    at = world.loop.time()
    await asyncio.sleep(span(step.b, 1, 600))
    if world.quiet:
        return
    head.kill("its disk is lost")
    done(world, step)
    world.restores += 1
    world.restored_at.append(at)
    head.restore(backup)
    world.watch.restored()
    head.start()


async def head_clock(world: "World", step: Step) -> None:
    done(world, step)
    world.head.skew_s += (step.a - 0.5) * 2 * 86400


async def slow_disk(world: "World", step: Step) -> None:
    done(world, step)
    world.loop.disk_s = span(step.a, 0.05, 5)
    await asyncio.sleep(span(step.b, 1, 120))
    world.loop.disk_s = 0.0


# ---- the network -------------------------------------------------------------------------------------------------


async def _cut(world: "World", step: Step, *, up: bool, down: bool) -> None:
    path = path_of(world, step)
    if path.connections:
        done(world, step)
    path.set_cut(up=up, down=down)
    await asyncio.sleep(span(step.b))
    path.set_cut(up=True, down=True)


async def cut(world: "World", step: Step) -> None:
    await _cut(world, step, up=False, down=False)


async def long_cut(world: "World", step: Step) -> None:
    """For longer than a lease."""
    await _cut(world, replace(step, b=0.85 + 0.15 * step.b), up=False, down=False)


async def cut_up(world: "World", step: Step) -> None:
    await _cut(world, step, up=False, down=True)


async def cut_down(world: "World", step: Step) -> None:
    await _cut(world, step, up=True, down=False)


async def reset(world: "World", step: Step) -> None:
    path = path_of(world, step)
    if path.connections:
        done(world, step)
        path.reset("Connection reset by peer")
    await asyncio.sleep(0)


async def reset_in_call(world: "World", step: Step) -> None:
    """The connection breaks after byte k of what the head sends next."""
    path = path_of(world, step)
    if path.connections:
        done(world, step)
        path.reset_after = int(step.b * step.b * 3000)
    await asyncio.sleep(120)
    path.reset_after = None


async def slow_path(world: "World", step: Step) -> None:
    path = path_of(world, step)
    done(world, step)
    path.latency_s = span(step.b, 0.05, 20)
    await asyncio.sleep(span(step.c, 5, 300))
    path.latency_s = 0.001


async def sshd_down(world: "World", step: Step) -> None:
    path = path_of(world, step)
    done(world, step)
    path.sshd = False
    if step.c < 0.5:
        path.reset("sshd was stopped")
    await asyncio.sleep(span(step.b))
    path.sshd = True


async def flap(world: "World", step: Step) -> None:
    path = path_of(world, step)
    done(world, step)
    for _ in range(int(3 + step.b * 8)):
        path.set_cut(up=False, down=False)
        await asyncio.sleep(span(step.c, 0.1, 20))
        if step.c < 0.5:
            path.reset("Connection reset by peer")
        path.set_cut(up=True, down=True)
        await asyncio.sleep(world.random.uniform(0.1, 5))


async def login_refused(world: "World", step: Step) -> None:
    path = path_of(world, step)
    done(world, step)
    path.login = False
    path.reset("the key was revoked")
    await asyncio.sleep(span(step.b))
    path.login = True


async def host_key(world: "World", step: Step) -> None:
    path = path_of(world, step)
    done(world, step)
    path.host_key = False
    path.reset("sshd was restarted")
    await asyncio.sleep(span(step.b))
    path.host_key = True


async def swap_address(world: "World", step: Step) -> None:
    """An address is another machine for a while: its host key says so."""
    paths = sorted(world.paths.values(), key=lambda p: p.address)
    first, second = pick(paths, step.a), pick(paths, step.b)
    if first is second:
        return
    done(world, step)
    first.node, second.node = second.node, first.node
    for path in (first, second):
        path.host_key = False
        path.reset("the address has moved")
    await asyncio.sleep(span(step.c, 5, 300))
    if not world.quiet:
        first.node, second.node = second.node, first.node
        for path in (first, second):
            path.host_key = True
            path.reset("the address has moved back")


# ---- the nodes ---------------------------------------------------------------------------------------------------


async def reboot(world: "World", step: Step) -> None:
    node = node_of(world, step)
    if node.on:
        done(world, step)
        node.power_off(unsynced=False)
        await asyncio.sleep(span(step.b, 5, 600))
        node.power_on()


async def power_cut(world: "World", step: Step) -> None:
    node = node_of(world, step)
    if node.on:
        done(world, step)
        world.power_cuts.append((world.loop.time(), node.name))
        node.power_off(unsynced=True)
        await asyncio.sleep(span(step.b, 5, 600))
        node.power_on()


async def freeze_node(world: "World", step: Step) -> None:
    node = node_of(world, step)
    if node.awake:
        done(world, step)
        node.freeze(True)
        await asyncio.sleep(span(step.b, 0.5, 600))
        node.freeze(False)


async def _kill(world: "World", step: Step, kind: str) -> None:
    node = node_of(world, step)
    proc = pick(node.find(kind), step.b)
    if proc is not None and node.awake:
        done(world, step)
        world.note(f"{node.name}: kill -9 of {kind} {proc.launch[:8]}")
        proc.signal("KILL")
    await asyncio.sleep(0)


async def kill_runner(world: "World", step: Step) -> None:
    await _kill(world, step, "runner")


async def kill_supervisor(world: "World", step: Step) -> None:
    await _kill(world, step, "supervisor")


async def kill_spawner(world: "World", step: Step) -> None:
    await _kill(world, step, "spawner")


async def kill_job(world: "World", step: Step) -> None:
    await _kill(world, step, "job")


async def kill_user(world: "World", step: Step) -> None:
    """SIGKILL to all that the user has, in an order nobody knows."""
    node = node_of(world, step)
    if not node.awake:
        return
    done(world, step)
    procs = list(node.procs.values())
    world.random.shuffle(procs)
    for proc in procs:
        proc.signal("KILL")
    await asyncio.sleep(0)


async def stop_process(world: "World", step: Step) -> None:
    """SIGSTOP and much later SIGCONT: whatever it was about to do, it does then."""
    node = node_of(world, step)
    kinds = ("supervisor", "supervisor", "spawner", "runner", "job", "watchdog")
    proc: Proc | None = pick(node.find(pick(list(kinds), step.b)), step.c)
    if step.when:
        proc = world.culprits.pop(step.number, None)
    elif proc is None or not node.awake:  # the next one that comes to life, then
        before = set(node.procs.values())
        for _ in range(400):
            await asyncio.sleep(0.05)
            fresh = [p for p in node.procs.values() if p not in before and p.kind in kinds]
            if fresh:
                proc = fresh[0]
                break
    if proc is None or not proc.alive:
        return
    done(world, step)
    world.note(f"{node.name}: {proc.kind} {proc.launch[:8]} is stopped")
    proc.stop()
    await asyncio.sleep(span(world.random.random(), 0.5, 300))
    proc.go_on()


async def stop_and_reset(world: "World", step: Step) -> None:
    """The same, and the connection breaks meanwhile: the controller comes back and decides without it."""
    path = path_of(world, step)
    stopping = asyncio.ensure_future(stop_process(world, step))
    await asyncio.sleep(span(step.a, 0.01, 10))
    if not world.quiet:
        path.reset("Connection reset by peer")
    await stopping


async def stop_until_fenced(world: "World", step: Step) -> None:
    """Whoever got there stops, the controller comes back and fences the launch, and at that moment it goes on."""
    proc = world.culprits.pop(step.number, None)
    if proc is None or not proc.alive:
        return
    done(world, step)
    path = path_of(world, step)
    proc.stop()
    fenced = world.loop.create_future()
    world.awaited.setdefault(("fence_won", step.node), []).append(fenced)
    path.reset("Connection reset by peer")
    await asyncio.wait({fenced}, timeout=span(step.b, 5, 120))
    proc.go_on()


async def disk_full(world: "World", step: Step) -> None:
    node = node_of(world, step)
    done(world, step)
    node.disk_full = True
    await asyncio.sleep(span(step.b))
    node.disk_full = False


async def wipe(world: "World", step: Step) -> None:
    node = node_of(world, step)
    if node.on and node.spools:
        done(world, step)
        world.wipes.append((world.loop.time(), node.name))
        node.wipe()
    await asyncio.sleep(0)


async def node_clock(world: "World", step: Step) -> None:
    done(world, step)
    node_of(world, step).skew_s += (step.b - 0.5) * 2 * 86400
    await asyncio.sleep(0)


async def slow_node(world: "World", step: Step) -> None:
    node = node_of(world, step)
    done(world, step)
    node.slow = span(step.b, 5, 2000)
    await asyncio.sleep(span(step.c, 5, 300))
    node.slow = 1.0


# ---- the inventory -----------------------------------------------------------------------------------------------


async def remove_host(world: "World", step: Step) -> None:
    name = pick(sorted(world.inventory), step.a)
    if len(world.inventory) < 2 or name is None:
        return
    done(world, step)
    keys = world.inventory.pop(name)
    world.head.write_inventory(world.inventory)
    await asyncio.sleep(span(step.b, 5, 900))
    world.inventory[name] = keys
    if not world.quiet:
        world.head.write_inventory(world.inventory)


async def rename_host(world: "World", step: Step) -> None:
    """The same machine under a second name, beside the first or in its place."""
    name = pick(sorted(world.all_hosts), step.a)
    if name not in world.inventory:
        return
    done(world, step)
    changed = dict(world.inventory)
    if step.b < 0.5:
        del changed[name]
    changed[f"x{name}"] = f"ansible_host: {name}"
    world.head.write_inventory(changed)
    await asyncio.sleep(span(step.c, 20, 600))
    if not world.quiet:
        world.head.write_inventory(world.inventory)


async def edit_host(world: "World", step: Step) -> None:
    name = pick(sorted(world.inventory), step.a)
    if name is None:
        return
    done(world, step)
    world.inventory[name] = pick(["sshq_slots: 1", "sshq_weight: 5", "ansible_port: 2222", ""], step.b)
    world.head.write_inventory(world.inventory)
    await asyncio.sleep(0)


FATES: dict[str, Fate] = {
    name: value
    for names in (globals(), vars(words))
    for name, value in list(names.items())
    if asyncio.iscoroutinefunction(value) and name != "carry_out"
}
