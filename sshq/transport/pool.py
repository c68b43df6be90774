"""All transports of a process and what they share: host keys, jump hosts, turns, key files."""

from sshq.errors import UnreachableHostError
from sshq.transport.base import Deadlines, Target, Transport
from sshq.transport.hostkeys import FetchedKey, HostKeys
from sshq.transport.jumphosts import JumpHosts
from sshq.transport.keepalives import Keepalives
from sshq.transport.keyscan import fetch_host_keys
from sshq.transport.local import LocalTransport
from sshq.transport.login import Login, Shared, log_in
from sshq.transport.options import find_jumps
from sshq.transport.ssh import SshTransport


class Transports:
    """One a process; `transport` is the factory that the controller takes."""

    def __init__(
        self,
        *,
        known_hosts: str,
        deadlines: Deadlines | None = None,
        keepalive_s: float = 15.0,
        keepalive_count: int = 3,
    ) -> None:
        self.host_keys = HostKeys(known_hosts)
        self._jump_hosts = JumpHosts(self._log_in_jump_host)
        self._shared = Shared(
            host_keys=self.host_keys,
            jump_hosts=self._jump_hosts,
            deadlines=deadlines or Deadlines(),
            keepalives=Keepalives(keepalive_s, keepalive_count),
        )

    def transport(self, target: Target) -> Transport:
        """Return the way to a host, not yet connected."""
        if target.connection == "local":
            return LocalTransport(target, self._shared.deadlines)
        return SshTransport(target, self._shared)

    async def fetch_host_keys(self, target: Target) -> list[FetchedKey]:
        """Ask a host for its keys without logging in on it; its jump hosts must be trusted already."""
        return await fetch_host_keys(target, self._shared)

    def bastions(self, target: Target) -> list[Target]:
        """Return a host's jump hosts in the order they are dialled, each a target with its own way."""
        try:
            return find_jumps(target)
        except ValueError as exc:
            raise UnreachableHostError(f"{target.name}: {exc}", host=target.name) from exc

    async def close(self) -> None:
        """End the shared connections."""
        self._jump_hosts.close()

    async def _log_in_jump_host(self, jump: Target) -> Login:
        return await log_in(jump, self._shared)
