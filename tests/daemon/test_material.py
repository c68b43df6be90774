"""Environments on their way to a job: pinned until it is stored, and not for longer."""

import asyncio

from sshq.controller.material import Materials
from sshq.controller.storethread import StoreThread


def test_who_goes_while_an_environment_is_written_leaves_no_pin(tmp_path):
    async def leave() -> int:
        materials = Materials(tmp_path, StoreThread())
        going = asyncio.create_task(materials.keep_environ(b"A=1\0"))
        await asyncio.sleep(0)  # it has begun, and is in another thread
        going.cancel()
        await asyncio.wait([going])
        assert going.cancelled()
        digest = await materials.keep_environ(b"A=1\0")
        materials.unpin(digest)
        assert materials.sweep(frozenset(), 0.0) == 1  # the only pin was ours
        return len(list((tmp_path / "environments").iterdir()))

    assert asyncio.run(leave()) == 0
