"""What users and administrators say: each function is one word, named as in the plan."""

import asyncio
from typing import TYPE_CHECKING

from .choose import pick, span
from .plan import Step

if TYPE_CHECKING:
    from .world import World


async def _verb(world: "World", step: Step, method: str, **params: object) -> None:
    known = [s for s in world.submissions if s.job_id is not None]
    submission = pick(known, step.a)
    if submission is None:
        return
    refs = [[submission.job_id, None]]
    if method == "requeue":
        submission.requeues += 1
        submission.cancelled_at = None
    where: dict[str, object] = {"filter": {"refs": refs}} if method == "cancel" else {"refs": refs}
    answer = await world.head.ask(method, {**where, **params})
    outcomes = [r["outcome"] for r in answer.get("results", ())]
    world.note(f"client: {method} job {submission.job_id}: {outcomes}")
    if method == "cancel" and "signal" not in params and set(outcomes) == {"cancelled"}:
        world.watch.cancelled(submission)


async def cancel(world: "World", step: Step) -> None:
    await _verb(world, step, "cancel")


async def cancel_kill(world: "World", step: Step) -> None:
    await _verb(world, step, "cancel", signal=9)


async def signal(world: "World", step: Step) -> None:
    await _verb(world, step, "cancel", signal=10)


async def hold(world: "World", step: Step) -> None:
    await _verb(world, step, "hold")


async def release(world: "World", step: Step) -> None:
    if not world.restores:  # what a restored store holds may have run: users wait until all nodes have been heard
        await _verb(world, step, "release")


async def requeue(world: "World", step: Step) -> None:
    await _verb(world, step, "requeue")


async def requeue_hold(world: "World", step: Step) -> None:
    await _verb(world, step, "requeue", hold=True)


async def suspend(world: "World", step: Step) -> None:
    await _verb(world, step, "suspend")
    await asyncio.sleep(span(step.b, 1, 300))
    if not world.quiet:
        await _verb(world, step, "resume")


async def resume(world: "World", step: Step) -> None:
    await _verb(world, step, "resume")


async def update(world: "World", step: Step) -> None:
    await _verb(world, step, "update_job", changes={"nice": int(step.b * 100)})


async def _update_node(world: "World", step: Step, state: str) -> None:
    name = pick(sorted(world.all_hosts), step.a)
    await world.head.ask("update_node", {"names": [name], "state": state, "reason": "simulated"})


async def drain(world: "World", step: Step) -> None:
    await _update_node(world, step, "drain")
    await asyncio.sleep(span(step.b, 1, 600))
    if not world.quiet:
        await _update_node(world, step, "resume")


async def undrain(world: "World", step: Step) -> None:
    await _update_node(world, step, "resume")


async def down(world: "World", step: Step) -> None:
    await _update_node(world, step, "down")
    await asyncio.sleep(span(step.b, 1, 600))
    if not world.quiet:
        await _update_node(world, step, "resume")
