"""Recording host keys: fetch what hosts show, compare with what is recorded, record what a person has agreed to.

Fetching records nothing.  A jump host stands before the hosts behind it, which cannot be asked until its own key is
recorded.  A key of a known host that is not the recorded one is shown as changed, with the old fingerprint.
"""

import asyncio
import fnmatch
import getpass
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import asyncssh

from sshq.controller.hosts import target_of
from sshq.errors import HostKeyError, NodeError, RefusedError
from sshq.inventory.model import Host, Inventory
from sshq.transport.base import Target
from sshq.transport.hostkeys import FetchedKey, Lookup
from sshq.transport.knownhosts import KnownKey
from sshq.transport.options import format_endpoint, resolve
from sshq.transport.pool import Transports

SIDE_BY_SIDE: Final = 16
FETCH_S: Final = 90.0  # of all hosts

Object = dict[str, object]


def choose_hosts(inventory: Inventory, names: Sequence[str] | None) -> list[Host]:
    """Return the hosts that names or patterns (ws*) stand for, in the inventory's order; None: all."""
    if names is None:
        return list(inventory.hosts.values())
    return [host for name, host in inventory.hosts.items() if any(fnmatch.fnmatchcase(name, pattern) for pattern in names)]


class Trust:
    """The verb `trust` of the ad hoc process."""

    def __init__(self, inventory: Inventory, transports: Transports) -> None:
        self._inventory = inventory
        self._transports = transports
        self._turns = asyncio.Semaphore(SIDE_BY_SIDE)

    # ---- fetch -----------------------------------------------------------------------------------------------

    async def fetch(self, names: Sequence[str] | None) -> Object:
        """Return {"hosts": [{name, address, known, keys, recorded, error, hint}]}, jump hosts first."""
        hosts = choose_hosts(self._inventory, names)
        targets = {host.name: target_of(host) for host in hosts if host.connection == "ssh"}
        gates, broken = self._find_gates(targets.values())
        asked = {name: gate for name, gate in self._all_gates().items() if names and name in names and name not in targets}
        # A jump host that is vouched for already costs no question; who is behind one that is not cannot be asked.
        wanted = {name: gate for name, gate in gates.items() if name not in targets and not self._look_up(gate)}
        first = await self._fetch_all([*{**wanted, **asked}.values()])
        later = await self._fetch_all([target for name, target in targets.items() if name not in broken])
        if any(item.get("gate") for item in later):  # its recorded key was refused: show what it has now
            shown = {item["name"] for item in (*first, *later)}
            again = await self._fetch_all([gate for name, gate in gates.items() if name not in shown])
            first += [item for item in again if item["known"] != "same"]
        items = [*first, *(_failed(targets[name], error) for name, error in broken.items()), *later]
        if names:
            items += self._explain_the_rest(names, hosts, asked)
        return {"hosts": items}

    def _explain_the_rest(self, names: Sequence[str], hosts: Sequence[Host], asked: Mapping[str, Target]) -> list[Object]:
        """What was named and cannot be asked; nothing, where no name fits at all: the caller says that."""
        local = [host for host in hosts if host.connection == "local" and host.name in names]
        items = [_item(host.name, host.address, "unknown") | {"error": "this machine itself, no key is needed"} for host in local]
        matched = [*asked, *(host.name for host in hosts)]
        strangers = [name for name in names if not fnmatch.filter(matched, name)] if matched else []
        items += [_item(name, "", "unknown") | {"error": "no such host in the inventory"} for name in strangers]
        return items

    def _find_gates(self, targets: Iterable[Target]) -> tuple[dict[str, Target], dict[str, NodeError]]:
        """Return all jump hosts of these targets, each before those behind it, and the targets whose way is broken."""
        gates: dict[str, Target] = {}
        broken: dict[str, NodeError] = {}
        for target in targets:
            try:
                for gate in self._transports.bastions(target):
                    gates.setdefault(gate.name, gate)
            except NodeError as error:
                broken[target.name] = error
        return gates, broken

    def _all_gates(self) -> dict[str, Target]:
        return self._find_gates([target_of(h) for h in self._inventory.hosts.values() if h.connection == "ssh"])[0]

    def _look_up(self, target: Target) -> tuple[KnownKey, ...]:
        try:
            return self._transports.host_keys.look_up(resolve(target)).keys
        except NodeError:
            return ()

    async def _fetch_all(self, targets: Sequence[Target]) -> list[Object]:
        return list(await asyncio.gather(*map(self._fetch_one, targets)))

    async def _fetch_one(self, target: Target) -> Object:
        try:
            async with self._turns, asyncio.timeout(FETCH_S):
                resolved = resolve(target)
                found = await self._transports.fetch_host_keys(target)
        except NodeError as error:
            return _failed(target, error)
        except TimeoutError:
            return _item(target.name, target.address, "unknown") | {"error": f"no answer within {FETCH_S:.0f} s"}
        lookup = self._transports.host_keys.look_up(resolved)
        item = _item(target.name, format_endpoint(resolved.host, resolved.port), compare_keys(found, lookup))
        item["keys"] = [{"type": key.kind, "fingerprint": key.fingerprint, "line": key.line} for key in found]
        item["recorded"] = [{"type": k.kind, "fingerprint": k.fingerprint, "place": k.place} for k in lookup.plain]
        revoked = _find_revoked(found, lookup)
        if revoked is not None:
            item |= {"error": f"it shows a revoked key: {revoked.fingerprint}, {revoked.place}", "keys": []}
        return item

    # ---- record ----------------------------------------------------------------------------------------------

    def record(self, keys: Sequence[object]) -> Object:
        """Record [{name, line, fingerprint}]; returns {"results": [{name, outcome, message}]}."""
        chosen: dict[str, list[FetchedKey]] = {}
        for entry in keys:
            name, key = _read_key(entry)
            chosen.setdefault(name, []).append(key)
        places = {host.name: target_of(host) for host in self._inventory.hosts.values() if host.connection == "ssh"}
        places = {**self._all_gates(), **places}
        return {"results": [self._record_one(name, places.get(name), found) for name, found in chosen.items()]}

    def _record_one(self, name: str, target: Target | None, keys: Sequence[FetchedKey]) -> Object:
        if target is None:
            return {"name": name, "outcome": "unknown", "message": "no such host in the inventory"}
        host_keys = self._transports.host_keys
        try:
            lookup = host_keys.look_up(resolve(target))
        except NodeError as error:
            return {"name": name, "outcome": "refused", "message": _bare(error)}
        revoked = _find_revoked(keys, lookup)
        if revoked is not None:
            return {"name": name, "outcome": "refused", "message": f"not recorded: revoked at {revoked.place}"}
        old = [key for key in host_keys.pinned(name) if key.marker != "revoked"]
        if {key.line for key in old} == {key.line for key in keys} and not any(key.marker for key in old):
            return {"name": name, "outcome": "known", "message": "its key is recorded already"}
        day = time.strftime("%Y-%m-%d", time.localtime())
        host_keys.trust(name, keys, origin=f"sshq hosts trust by {_user()} on {day}")
        gone = [key.fingerprint for key in old if key.line not in {new.line for new in keys}]
        instead = f", in place of {', '.join(gone)}" if gone else ""
        return {"name": name, "outcome": "recorded", "message": f"recorded {', '.join(k.fingerprint for k in keys)}{instead}"}


def compare_keys(found: Sequence[FetchedKey], lookup: Lookup) -> str:
    """Return same, changed or unknown: a kind that shows another key than the recorded one is a change."""
    shown = {key.kind: key.line for key in found}
    if not lookup.plain:
        return "unknown"
    if any(key.kind in shown and shown[key.kind] != _line(key) for key in lookup.plain):
        return "changed"
    return "same" if any(key.kind in shown for key in lookup.plain) else "changed"


def _find_revoked(keys: Sequence[FetchedKey], lookup: Lookup) -> KnownKey | None:
    return next((bad for bad in lookup.revoked for key in keys if key.line == _line(bad)), None)


def _line(key: KnownKey) -> str:
    return " ".join(key.line.split()[:2])


def _item(name: str, address: str, known: str) -> Object:
    return {"name": name, "address": address, "known": known, "keys": [], "recorded": [], "error": None, "hint": None}


def _failed(target: Target, error: NodeError) -> Object:
    """A host that showed no key; behind a jump host that is not trusted, say what comes first."""
    item = _item(target.name, target.address, "unknown") | {"error": _bare(error), "hint": error.hint}
    if isinstance(error, HostKeyError):
        item |= {"error": f"{_bare(error)}; record the jump host's key first, then run this again", "gate": True}
    return item


def _bare(error: NodeError) -> str:
    return error.message.removeprefix(f"{error.host}: ")


def _read_key(entry: object) -> tuple[str, FetchedKey]:
    """Take one key of the request: its fingerprint must be that of its line, since that is what was compared."""
    name, line, fingerprint = (entry.get(k) for k in ("name", "line", "fingerprint")) if isinstance(entry, dict) else ("", "", "")
    if not (isinstance(name, str) and isinstance(line, str) and isinstance(fingerprint, str) and name):
        raise RefusedError("a key needs name, line and fingerprint", code="bad_request")
    try:
        key = asyncssh.import_public_key(line)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise RefusedError(f"{name}: not a public key: {error}", code="bad_request") from None
    if key.get_fingerprint() != fingerprint:
        raise RefusedError(f"{name}: the key has the fingerprint {key.get_fingerprint()}, not {fingerprint}", code="bad_request")
    return name, FetchedKey(kind=key.get_algorithm(), fingerprint=fingerprint, line=" ".join(line.split()[:2]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an unknown user"
