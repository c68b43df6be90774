"""Asking a host for its keys without logging in: what `sshq hosts trust` shows before it records anything.

Each kind of key costs the host an unauthenticated connection, which sshd holds against us (PerSourcePenalties), so the
kinds are asked for one after the other, the best first, and only once.
"""

import asyncio

import asyncssh

from sshq.transport.base import Target
from sshq.transport.classify import Attempt, classify
from sshq.transport.dial import Dialled, NoAnswerError
from sshq.transport.hostkeys import FetchedKey, Lookup
from sshq.transport.login import (
    Lease,
    Shared,
    Tunnel,
    dial_in_turn,
    lease_jump_host,
    preferred_kex,
)
from sshq.transport.options import resolve
from sshq.transport.turns import OPENINGS_A_JUMP_HOST

_KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)


async def fetch_host_keys(target: Target, shared: Shared) -> list[FetchedKey]:
    """Return the keys a host shows, the preferred kind first; NodeError if it shows none."""
    resolved = await asyncio.to_thread(resolve, target)
    nothing = Lookup(keys=(), revoked=(), pinned=False, searched=())
    attempt = Attempt(resolved, shared.host_keys, nothing)
    lease: Lease | None = None
    found: list[FetchedKey] = []
    failure: Exception | None = None
    try:
        lease = await lease_jump_host(resolved, shared)
        attempt.via = ", ".join(resolved.jumps)
        for algorithms in _KINDS:
            try:
                found.append(await _fetch(attempt, shared, lease, algorithms))
            except (asyncssh.DisconnectError, ConnectionResetError) as exc:
                failure = exc  # no key of this kind: whoever notices first hangs up
    except (OSError, ValueError, asyncssh.Error) as exc:
        failure = exc
    finally:
        if lease is not None:
            lease.release()
    if not found and failure is not None:
        raise classify(failure, attempt) from failure
    return found


async def _fetch(attempt: Attempt, shared: Shared, lease: Lease | None, algorithms: tuple[str, ...]) -> FetchedKey:
    """Return the host's key of one kind."""
    resolved = attempt.resolved
    door = (resolved.host, resolved.port) if lease is None else lease.connection
    limit_s = shared.deadlines.login_s
    dialled: Dialled | None = None
    async with shared.turns.at(door, 1 if lease is None else OPENINGS_A_JUMP_HOST):
        attempt.stage = "tunnel" if lease is not None else "dial"
        if lease is None:
            dialled = await dial_in_turn(resolved, shared)
            attempt.first_bytes = dialled.first_bytes
            attempt.stage = "login"
        try:
            async with asyncio.timeout(limit_s):
                key = await asyncssh.get_server_host_key(
                    resolved.target.address,
                    options=resolved.asyncssh_options,
                    config=None,
                    sock=None if dialled is None else dialled.sock,
                    tunnel=None if lease is None else Tunnel(lease.connection),
                    proxy_command=None,
                    server_host_key_algs=algorithms,
                    kex_algs=preferred_kex(resolved),
                )
        except TimeoutError:
            raise NoAnswerError(attempt.stage, limit_s) from None
        finally:
            if dialled is not None:
                dialled.close()
    if key is None:
        raise asyncssh.KeyExchangeFailed("no host key was shown")
    line = key.export_public_key("openssh").decode().split()
    return FetchedKey(kind=line[0], fingerprint=key.get_fingerprint(), line=" ".join(line[:2]))
