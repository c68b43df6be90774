"""The launch protocol as a transition system: what a world is, what its evidence means, and what must never be seen.

A world is a tuple of small values, so that millions can be kept.  Launch 0 belongs to another job; 1, 2, ... are the
launches of the job that is watched.  The steps from world to world are in `moves.py`, the walks in `explore.py`; what is
modelled and what is not stands in `model/__init__.py`.
"""

from typing import Any, NamedTuple

GUARDS = {
    "intent": "a launch is in the store before it is sent",
    "claim": "a launch is claimed once: a second copy of the call finds it and stops",
    "refused": "a node that refused a launch refuses its other copies too",
    "boot": "a launch names the boot it was decided for, and another boot refuses it",
    "ident": "the supervisor writes who it is before it takes `go`",
    "go": "a start needs `go`, the file, made exclusively",
    "fence": "never-started is claimed only after `go`, the directory, is ours",
    "cancel": "so is a cancel before the start",
    "floor": "what is settled is remembered by the floor, and refused for ever",
    "floorlate": "the supervisor reads the floor after it has taken `go`",
    "claimlate": "and looks whether its claim is still there: the spool may have been lost meanwhile",
    "gcorder": "the floor is raised before the files go",
    "openset": "seqs below the floor that are still open are named in it",
    "mono": "the floor is merged with what stands there, never overwritten",
    "floorword": "a refusal because of the floor says nothing about whether the launch ran",
    "reserve": "a connection takes a new generation, which closes every older seq that is not open in the store",
    "epochread": "a controller looks whether the store is still its own before it takes a generation",
    "dbfence": "every write to the store checks the epoch",
    "txguard": "only an open launch is settled",
    "absence": "silence is not death",
    "requeue": "LOST goes back to the queue only when its user asked for it",
    "lostspool": "SPOOL_LOST does not go back to the queue even then: it may still run",
    "spoolword": "another spool says nothing about a launch: SPOOL_LOST, not a fence in the new one",
    "bootword": "another boot means REBOOTED, even where no `go` is found: a power cut may have taken it",
    "forgot": "a fence won on a launch that the floor calls settled is undone: LOST, not never-started",
    "held": "after a restore what was pending is held",
    "heldlive": "after a restore what was launched is held too, should it come back to the queue",
    "noted": "after a restore a cancel is only noted until the node has been listed",
    "adopt": "a launch that the restored store does not know is adopted before anything is decided",
    "supersede": "and if it is of a later attempt, the one that the store holds open had been settled",
    "listed": "a reply counts only after the first listing: it may speak of what a later launch has overtaken",
    "newest": "of several unknown launches the newest one is adopted",
    "spare": "unknown launches are not killed",
    "leasewait": "a launch is given up only when its lease has been over on its node for long enough to end it",
    "leaselate": "an order that comes when its lease is over starts nothing",
    "leasefrom": "a renewal names a moment of the node's clock that was read before: late, it renews nothing",
}


class Faults(NamedTuple):
    """How often each may happen.  A lost connection is `kill9` without the new epoch: it forgets less."""

    kill9: int = 0  # kill -9 of the controller
    reboot: int = 0
    power: int = 0  # a reboot that may undo what was written last for one launch
    pkill: int = 0  # a supervisor, or a runner between claim and spawn
    second: int = 0  # a second controller on the same store
    cancel: int = 0
    requeue: int = 0  # asked for by the user while the job is launched
    restore: int = 0  # the store goes back to any earlier state
    wipe: int = 0  # the spool is lost; the processes live on
    full: int = 0  # a claim fails for want of room
    lease: int = 0  # the leases of all launches decided so far are over on the node


class World(NamedTuple):
    # ---- the store
    job: str  # P pending A launched C completed F failed K cancelled
    held: int
    fresh: int  # restored, the node not listed yet
    wish: int  # 1 cancel 2 requeue
    cur: int  # the job's newest launch, 0 = none
    rows: tuple[Any, ...]  # (state, accounting rows): - unknown I intent R running | X exited K killed N never B rebooted L S lost E lease
    known: int  # the node's generation as stored
    backup: Any
    # ---- controllers
    head: Any  # (0 to connect 1 generation taken 2 ready, decided and not yet sent, listing not yet acted upon)
    old: Any  # a deposed one: (decided and not sent, listing not acted upon, thinks that the job is pending)
    # ---- the node
    gen: int
    boot: int
    spool: int
    floor: Any  # (H, open seqs below)
    disk: tuple[Any, ...]  # (claimed, go: "" f d, record: "" e k n l, whose identity)
    run: tuple[int, ...]  # processes of the job
    sup: tuple[Any, ...]  # (launch, instance, where): s0 sf s1 s2, then what it will record: e k n l
    net: tuple[Any, ...]  # calls and replies on their way
    late: tuple[int, ...]  # launches whose lease is over on the node
    # ---- what happened, for the properties
    la: tuple[Any, ...]  # (boot, seq, spool, attempt) of each launch decided
    started: tuple[int, ...]
    over: int  # the job was final once
    waived: int  # the user asked for another run: 1 requeued, 2 released after a restore
    left: Faults


FINAL, OPEN, SETTLED = "CFK", "IR", "XKNBLSE"
NEW = (0, "", "", 0)
SEQS = 8  # seqs a generation
Guards = frozenset[str]


def put(items: tuple[Any, ...], i: int, value: Any) -> tuple[Any, ...]:
    return (*items[:i], value, *items[i + 1 :])


def add(items: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    return items if value in items else tuple(sorted((*items, value)))


def drop(items: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    i = items.index(value)
    return items[:i] + items[i + 1 :]


def spend(w: World, fault: str) -> Faults:
    return w.left._replace(**{fault: getattr(w.left, fault) - 1})


def first_world(faults: Faults, launches: int, older: bool) -> World:
    """A ready controller, a pending job; with `older`, another job's launch whose supervisor is about to take `go`."""
    none = (None,) * launches
    zero = (0,) * launches
    row, la0 = (("I", 0), (0, 1, 0, 1)) if older else (("X", 1), (0, 0, 0, 1))
    return World(
        job="P", held=0, fresh=0, wish=0, cur=0, rows=(row,) + (("-", 0),) * (launches - 1), known=0, backup=None,
        head=(2, None, None), old=None, gen=0, boot=0, spool=0, floor=(0, ()),
        disk=((1, "", "", 0) if older else NEW,) + (NEW,) * (launches - 1), run=zero,
        sup=((0, 1, "s0"),) if older else (), net=(("L", 0),) if older else (), late=zero, la=(la0, *none[1:]), started=(int(not older), *zero[1:]),
        over=0, waived=0, left=faults,
    )  # fmt: skip


# ---------------------------------------------------------------- what is known


def is_settled(floor: Any, seq: int) -> bool:
    return seq <= floor[0] and seq not in floor[1]


def raise_floor(w: World, high: int, open_seqs: tuple[int, ...], g: Guards) -> Any:
    if "floor" not in g:
        return w.floor
    old_high, old_open = w.floor
    if "mono" not in g:
        return (high, open_seqs)
    kept = [s for s in old_open if s > high or s in open_seqs] + [s for s in open_seqs if old_high < s <= high]
    return (max(old_high, high), tuple(sorted(kept)))


def open_seqs(w: World) -> tuple[int, ...]:
    return tuple(sorted(w.la[k][1] for k, row in enumerate(w.rows) if row[0] in OPEN))


def is_alive(w: World, k: int) -> bool:
    who = w.disk[k][3]
    return bool(w.run[k]) or any(x[0] == k and x[1] == who for x in w.sup)


def judge(w: World, k: int, g: Guards) -> str:
    """What a listing says about launch k: an outcome, R, or ? for the arbiter to decide (the table of reconcile.py)."""
    claimed, go, record, _ = w.disk[k]
    boot, _, spool, _ = w.la[k]
    if record:
        return {"e": "X", "k": "K", "n": "N", "l": "E"}[record]
    if go == "d":
        return "N"
    if not claimed and not go and spool != w.spool and "spoolword" in g:
        return "S"
    if boot != w.boot:
        return "B" if go or w.rows[k][0] == "R" or "bootword" in g else "N"
    if not go:
        return "?"
    return "R" if is_alive(w, k) else "L"


def settle(w: World, k: int, how: str, g: Guards) -> World:
    """One transaction: the launch, its accounting row, and its job if it is the job's newest."""
    if w.rows[k][0] not in OPEN and "txguard" in g:
        return w
    net = w.net
    if "txguard" in g and not w.left.restore:
        net = tuple(m for m in net if m[1] != k or m[0] not in "NGFC")  # it would find the launch settled
    w = w._replace(rows=put(w.rows, k, (how, w.rows[k][1] + 1)), net=net)
    if k != w.cur or w.job != "A":
        return w
    if how == "X":
        job = "C"
    elif w.wish == 1:
        job = "K"
    elif how in "NBE" or "requeue" not in g:
        job = "P"
    elif w.wish == 2 and (how in "KL" or (how == "S" and "lostspool" not in g)):
        job = "P"
    else:
        job = "K" if how == "K" else "F"
    return w._replace(job=job, over=w.over or int(job in FINAL), wish=0 if job == "P" else w.wish)


def take(w: World, k: int, g: Guards) -> World:
    """Act upon what the node says of an open launch."""
    v = judge(w, k, g)
    cancelled = k > 0 and w.wish
    if v == "R":
        w = w._replace(rows=put(w.rows, k, ("R", w.rows[k][1])))
        return w._replace(net=add(w.net, ("C", k))) if cancelled else w
    if v != "?":
        return settle(w, k, v, g)
    if cancelled and "cancel" not in g:
        return settle(w, k, "K", g)
    if "fence" not in g:
        return settle(w, k, "N", g)
    return w._replace(net=add(w.net, ("C" if cancelled else "F", k)))


def unknown_launches(w: World) -> list[int]:
    """Launches that hold `go`, the file, and are newer than the restored store knows, newest first."""
    seen = w.la[w.cur][3] if w.cur else 0
    found = [k for k in range(1, len(w.rows)) if w.rows[k][0] == "-" and w.disk[k][1] == "f" and w.la[k][3] > seen]
    return sorted(found, key=lambda k: -w.la[k][3])


def adopt(w: World, g: Guards) -> World:
    found = unknown_launches(w)
    if w.job not in ("PA" if "supersede" in g else "P") or not found or "adopt" not in g:
        return w
    k = found[0] if "newest" in g else found[-1]
    if w.job == "A" and w.rows[w.cur][0] in OPEN:
        w = w._replace(rows=put(w.rows, w.cur, ("L", w.rows[w.cur][1] + 1)))
    return take(w._replace(rows=put(w.rows, k, ("I", w.rows[k][1])), cur=k, job="A"), k, g)


# ---------------------------------------------------------------- what must never be seen


def find_violation(w: World, name: str, before: World, first: World) -> str | None:
    launches = range(1, len(w.rows))
    # Store and spool lost and released all the same: nobody is left who could know.
    if sum(w.run[1:]) > 1 and not (w.waived == 2 and any(w.run[k] and w.la[k][2] != w.spool for k in launches)):
        return "two launches of one job run at once"
    if max(w.started) > 1:
        return "a launch started twice"
    if w.rows is not before.rows or name[:5] == "START":
        for k, (state, accounted) in enumerate(w.rows):
            if accounted > 1:
                return "two accounting rows for one launch"
            if state == "N" and w.started[k]:
                return "called never started, but it ran"
            if state == "X" and not w.started[k]:
                return "a completion that was none"
    if w.job in FINAL and any(w.run[k] and w.la[k][2] == w.spool for k in launches):
        return "the job is final and runs"
    if name[:5] == "START":
        k = int(name[5:])
        if w.rows[k][0] in SETTLED and w.la[k][2] == w.spool:
            return "started after it was settled"
        if k and w.over and not w.waived and w.la[k][2] == w.spool:
            return "started although the job had ended"
        if k and not w.waived and any(w.started[j] and not is_proved_dead(w, j, first) for j in launches if j != k):
            return "started again without proof that it may"
    elif name[:6] == "refuse" and name[7:] in (":floor", ":late"):
        k = int(name[6])
        if w.rows[k][0] in OPEN and w.left.restore == first.left.restore and w.la[k][2] == w.spool:
            return "an open launch was refused as settled"
    elif name[:4] == "kill" and w.run != before.run and name[4:].isdigit() and not asked_to_end(w, first):
        return "killed, and nobody had asked"
    return None


def is_proved_dead(w: World, k: int, first: World) -> bool:
    """Settled as REBOOTED or by its lease; or it would have been, had the store not been put back."""
    return w.rows[k][0] in "BE" or (w.left.restore < first.left.restore and w.la[k][0] != w.boot)


def asked_to_end(w: World, first: World) -> bool:
    return w.left.cancel < first.left.cancel or w.left.requeue < first.left.requeue


def is_done(w: World) -> bool:
    """Nothing is open, and the job is over or has no launch left in this model."""
    return not any(row[0] in OPEN for row in w.rows) and (w.job in FINAL or None not in w.la)
