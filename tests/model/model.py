"""The launch protocol as a transition system: one world, every step that can follow.  What is covered: `model/__init__.py`.

A world is a tuple of small values, so that millions can be kept.  `steps` gives each successor with its name and whether
it is a fault; `find_violation` says what must never be seen.  Launch 0 belongs to another job; 1, 2, ... are the launches
of the job that is watched.
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


class World(NamedTuple):
    # ---- the store
    job: str  # P pending A launched C completed F failed K cancelled
    held: int
    fresh: int  # restored, the node not listed yet
    wish: int  # 1 cancel 2 requeue
    cur: int  # the job's newest launch, 0 = none
    rows: tuple[Any, ...]  # (state, accounting rows): - unknown I intent R running | X exited K killed N never B rebooted L S lost
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
    disk: tuple[Any, ...]  # (claimed, go: "" f d, record: "" e k n, whose identity)
    run: tuple[int, ...]  # processes of the job
    sup: tuple[Any, ...]  # (launch, instance, where): s0 sf s1 s2, then what it will record: e k n
    net: tuple[Any, ...]  # calls and replies on their way
    # ---- what happened, for the properties
    la: tuple[Any, ...]  # (boot, seq, spool, attempt) of each launch decided
    started: tuple[int, ...]
    over: int  # the job was final once
    waived: int  # the user asked for another run: 1 requeued, 2 released after a restore
    left: Faults


FINAL, OPEN, SETTLED = "CFK", "IR", "XKNBLS"
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


def first_world(faults: Faults, launches: int, older: bool) -> World:
    """A ready controller, a pending job; with `older`, another job's launch whose supervisor is about to take `go`."""
    none = (None,) * launches
    zero = (0,) * launches
    row, la0 = (("I", 0), (0, 1, 0, 1)) if older else (("X", 1), (0, 0, 0, 1))
    return World(
        job="P", held=0, fresh=0, wish=0, cur=0, rows=(row,) + (("-", 0),) * (launches - 1), known=0, backup=None,
        head=(2, None, None), old=None, gen=0, boot=0, spool=0, floor=(0, ()),
        disk=((1, "", "", 0) if older else NEW,) + (NEW,) * (launches - 1), run=zero,
        sup=((0, 1, "s0"),) if older else (), net=(("L", 0),) if older else (), la=(la0, *none[1:]), started=(int(not older), *zero[1:]),
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
        return {"e": "X", "k": "K", "n": "N"}[record]
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
    elif how in "NB" or "requeue" not in g:
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


# ---------------------------------------------------------------- the steps

Step = tuple[str, bool, World]


def steps(w: World, g: Guards, copies: int) -> list[Step]:
    """Everything that can happen next: (name, is it a fault, the world after it)."""
    out: list[Step] = []
    store_steps(w, g, out)
    if w.head:
        head_steps(w, g, copies, out)
    if w.old:
        old_steps(w, g, copies, out)
    for i, m in enumerate(w.net):
        if i == 0 or m != w.net[i - 1]:
            message_steps(w, m, g, out)
    for x in w.sup:
        supervisor_steps(w, x, g, out)
    for k, running in enumerate(w.run):
        if running > sum(x[0] == k and x[2] == "s2" for x in w.sup):
            out.append(("orphan_exits", False, w._replace(run=put(w.run, k, running - 1))))
    node_faults(w, out)
    return out


def spend(w: World, fault: str) -> Faults:
    return w.left._replace(**{fault: getattr(w.left, fault) - 1})


def store_steps(w: World, g: Guards, out: list[Step]) -> None:
    left = w.left
    if not w.head:
        out.append(("start", False, w._replace(head=(0, None, None))))
    else:
        if left.kill9:
            out.append(("kill9", True, w._replace(head=None, left=spend(w, "kill9"))))
        if left.second:
            _, ts, sn = w.head
            old = (ts, sn, int(w.job == "P")) if ts or not {"dbfence", "epochread"} <= g else None
            out.append(("second_start", True, w._replace(head=(0, None, None), old=old, left=spend(w, "second"))))
        user_steps(w, g, out)
    if left.restore and w.backup is None and w.head:
        out.append(("backup", True, w._replace(backup=(w.job, w.wish, w.cur, w.rows, w.known))))
    if left.restore and w.backup:
        job, wish, cur, rows, known = w.backup
        held = int((job == "P" and "held" in g) or (job == "A" and "heldlive" in g))
        out.append(("restore", True, w._replace(
            job=job, wish=wish, cur=cur, rows=rows, known=known, held=held, fresh=1, head=None, old=None, backup=None,
            left=spend(w, "restore"))))  # fmt: skip


def user_steps(w: World, g: Guards, out: list[Step]) -> None:
    if w.left.cancel and not w.wish:
        if w.job == "A" or (w.job == "P" and w.fresh and "noted" in g):
            out.append(("cancel", True, w._replace(wish=1, left=spend(w, "cancel"))))
        elif w.job == "P":
            out.append(("cancel", True, w._replace(job="K", over=1, left=spend(w, "cancel"))))
    if w.left.requeue and w.job == "A" and not w.wish:
        out.append(("ask_requeue", True, w._replace(wish=2, waived=1, left=spend(w, "requeue"))))
    if w.held and w.job == "P":
        out.append(("release", False, w._replace(held=0, waived=2)))


def decide(w: World, g: Guards, who: str, copies: int, out: list[Step]) -> None:
    """A free launch for the job: stored, then sent."""
    free = next((k for k, la in enumerate(w.la) if la is None), None)
    if free is None:
        return
    base = w.known * SEQS if "reserve" in g else 0
    seq = max([base, *(w.la[j][1] for j, row in enumerate(w.rows) if row[0] != "-")]) + 1
    attempt = (w.la[w.cur][3] if w.cur else 0) + 1
    new = w._replace(la=put(w.la, free, (w.boot, seq, w.spool, attempt)))
    if "intent" in g:
        new = new._replace(rows=put(w.rows, free, ("I", 0)), cur=free, job="A")
    if who == "head":
        out.append((f"decide{free}", False, new._replace(head=(w.head[0], free, w.head[2]))))
    else:
        out.append((f"decide{free}_by_the_old_one", False, send(new, free, copies)._replace(old=None)))


def send(w: World, k: int, copies: int) -> World:
    return w._replace(net=tuple(sorted(w.net + (("L", k),) * copies)))


def head_steps(w: World, g: Guards, copies: int, out: list[Step]) -> None:
    conn, ts, sn = w.head
    if ts is not None:
        sent = send(w, ts, copies)._replace(head=(conn, None, sn))
        if "intent" not in g:
            sent = sent._replace(rows=put(w.rows, ts, ("I", 0)), cur=ts, job="A")
            out.append((f"send{ts}_unwritten", False, send(w, ts, 1)._replace(head=None)))  # killed before it is written down
        out.append((f"send{ts}", False, sent))
    if conn == 0:
        new = max(w.gen, w.known) + 1
        floor = raise_floor(w, new * SEQS, open_seqs(w), g) if "reserve" in g else w.floor
        out.append(("connect", False, w._replace(head=(1, None, None), gen=new, floor=floor)))
    elif conn == 1:
        new = w._replace(head=(2, None, None), known=w.gen, fresh=0)
        if "spare" not in g:
            for k in unknown_launches(new):
                new = new._replace(net=add(new.net, ("C", k)))
        new = adopt(new, g)
        for k in range(len(w.rows)):
            if new.rows[k][0] in OPEN:
                new = take(new, k, g)
        new = adopt(new, g)
        if new.job == "P" and new.wish == 1:
            new = new._replace(job="K", over=1)
        out.append(("first_listing", False, new))
    else:
        if w.job == "P" and not w.held and ts is None:
            decide(w, g, "head", copies, out)
        listing_steps(w, g, out)
        ack_steps(w, out, g)


def listing_steps(w: World, g: Guards, out: list[Step]) -> None:
    """A listing, acted upon at once; only without the epoch check its age can matter (see `model/__init__.py`)."""
    for k, row in enumerate(w.rows):
        if row[0] not in OPEN or k == w.head[1]:
            continue
        v = judge(w, k, g)
        new = take(w, k, g)
        if new != w:
            out.append((f"list{k}:{v}", False, new))
        if "absence" not in g:
            out.append((f"timeout{k}", False, settle(w, k, "N", g)))
        if "dbfence" not in g and w.left.second and v not in "R?" and w.head[2] is None:
            out.append((f"look{k}:{v}", False, w._replace(head=(*w.head[:2], (k, v)))))
    new = adopt(w, g)
    if new != w:
        out.append(("adopt", False, new))


def ack_steps(w: World, out: list[Step], g: Guards) -> None:
    """Settled launches whose files are still there: floor and removal are ordered, both may be late or lost."""
    seen = w.la[w.cur][3] if w.cur else 0
    for k, row in enumerate(w.rows):
        closed = row[0] in SETTLED or (row[0] == "-" and w.la[k] and w.la[k][3] <= seen and not is_alive(w, k))
        if not closed or w.la[k] is None or any(m[1] == k and m[0] in "AD" for m in w.net):
            continue
        if w.disk[k] != NEW or (row[0] in SETTLED and w.la[k][2] == w.spool and not is_settled(w.floor, w.la[k][1])):
            high = max([w.known * SEQS if "reserve" in g else 0, *(w.la[j][1] for j, r in enumerate(w.rows) if r[0] != "-")])
            arg = (high, open_seqs(w) if "openset" in g else ())
            out.append((f"ack{k}", False, w._replace(net=add(w.net, ("A" if "gcorder" in g else "D", k, arg)))))


def old_steps(w: World, g: Guards, copies: int, out: list[Step]) -> None:
    """A controller that does not know yet that it is deposed: what it decided before, it sends."""
    ts, sn, saw = w.old
    if ts is not None:
        rest = None if {"dbfence", "epochread"} <= g else (None, sn, saw)
        out.append((f"send{ts}_by_the_old_one", False, send(w, ts, copies)._replace(old=rest)))
        return
    if "epochread" not in g:  # it connects, and closes what it does not know to be open
        new = w.gen + 1
        head = w.head and (0, None, w.head[2])  # the runner of the other one is ended
        out.append(("connect_by_the_old_one", False, w._replace(
            old=None, head=head, gen=new, floor=raise_floor(w, new * SEQS, (), g))))  # fmt: skip
    if "dbfence" not in g:
        if sn is not None:
            out.append((f"settle{sn[0]}_by_the_old_one", False, settle(w, *sn, g)._replace(old=None)))
        if saw:
            decide(w, g, "old", copies, out)


def message_steps(w: World, m: Any, g: Guards, out: list[Step]) -> None:
    """What a call does on the node, or a reply in the controller.  One that is never taken was lost."""
    kind, k = m[0], m[1]
    new = w._replace(net=drop(w.net, m))
    disk = w.disk[k]
    claimed, go, record, who = disk
    if kind == "L":
        launch_call(w, new, k, g, out)
    elif kind in "NG":
        heard = w.head and (w.head[0] == 2 or "listed" not in g)
        if heard and w.rows[k][0] in (("I" if kind == "N" else OPEN) if "txguard" in g else OPEN + SETTLED):
            out.append((f"told{k}:{kind}", False, settle(new, k, "N" if kind == "N" else "L", g)))
    elif kind in "FC" and go != "f":
        if "forgot" in g and go == "" and is_settled(w.floor, w.la[k][1]):
            out.append((f"forgotten{k}", False, new._replace(net=add(new.net, ("G", k)))))
        else:
            out.append((f"fence{k}", False, new._replace(disk=put(w.disk, k, (claimed, "d", record, who)))))
    elif kind == "C" and not record:
        out.append((f"kill{k}", False, kill(new, k)))
    elif kind in "FC":
        out.append((f"late{k}", False, new))
    elif kind == "A":
        floor = raise_floor(w, *m[2], g)
        net = add(new.net, ("D", k)) if "gcorder" in g else new.net
        if floor[0] and not any(w.left):  # copies that can only be refused from here on are as good as lost
            net = tuple(x for x in net if x[0] != "L" or "floorlate" not in g or not is_settled(floor, w.la[x[1]][1]))
        out.append((f"raise{k}", False, new._replace(floor=floor, net=net)))
    else:
        net = new.net if "gcorder" in g else add(new.net, ("A", k, m[2]))
        out.append((f"remove{k}", False, new._replace(disk=put(w.disk, k, NEW), net=net)))


def launch_call(w: World, new: World, k: int, g: Guards, out: list[Step]) -> None:
    claimed, go, _, who = w.disk[k]
    boot, seq, spool, _ = w.la[k]
    others = tuple(m for m in new.net if m != ("L", k)) if "refused" in g else new.net
    if claimed and "claim" in g:
        out.append((f"known{k}", False, new))
    elif go and not claimed:
        out.append((f"refuse{k}:go", False, new))
    elif is_settled(w.floor, seq):
        reply = new.net if "floorword" in g else add(new.net, ("N", k))
        out.append((f"refuse{k}:floor", False, new._replace(net=reply)))
    elif spool != w.spool:
        out.append((f"refuse{k}:spool", False, new))
    elif boot != w.boot and "boot" in g:
        out.append((f"refuse{k}:boot", False, new._replace(net=add(others, ("N", k)))))
    else:
        me = 1 + max([who, *(x[1] for x in w.sup if x[0] == k)])
        taken = new._replace(disk=put(w.disk, k, (1, go, "", who)))
        out.append((f"claim{k}", False, taken._replace(sup=add(w.sup, (k, me, "s0")))))
        if w.left.pkill:
            out.append((f"kill_runner{k}", True, taken._replace(left=spend(w, "pkill"))))
        if w.left.full:
            out.append((f"no_room{k}", True, new._replace(net=add(others, ("N", k)), left=spend(w, "full"))))


def kill(w: World, k: int) -> World:
    """By identity: the supervisor that took `go` ends its job and says so; without one the runner does."""
    who = w.disk[k][3]
    for x in w.sup:
        if x[:2] == (k, who):
            if x[2] in ("sf", "s1"):
                return w._replace(sup=add(drop(w.sup, x), (k, who, "n")))
            if x[2] == "s2":
                return w._replace(sup=add(drop(w.sup, x), (k, who, "k")), run=put(w.run, k, 0))
            return w
    if not w.run[k]:
        return w
    return w._replace(run=put(w.run, k, 0), disk=put(w.disk, k, (*w.disk[k][:2], "k" if w.disk[k][0] else "", who)))


def supervisor_steps(w: World, x: Any, g: Guards, out: list[Step]) -> None:
    k, me, at = x
    rest = drop(w.sup, x)
    claimed, go, record, who = w.disk[k]
    if w.left.pkill:
        out.append(("kill_supervisor", True, w._replace(sup=rest, left=spend(w, "pkill"))))

    def go_on(name: str, to: str | None, disk: Any = None, **more: Any) -> None:
        sup = rest if to is None else add(rest, (k, me, to))
        out.append((name, False, w._replace(sup=sup, disk=w.disk if disk is None else put(w.disk, k, disk), **more)))

    if at == "s0":
        who = me if "ident" in g and claimed else who
        if go and "go" in g:
            go_on(f"go_lost{k}", None, (claimed, go, record, who))
        else:
            go_on(f"go{k}", "sf", (claimed, "f", record, who))
    elif at == "sf":
        who = me if claimed else who
        if "claimlate" in g and not claimed:
            go_on(f"gone{k}", None)
        elif "floorlate" in g and is_settled(w.floor, w.la[k][1]):
            go_on(f"refuse{k}:late", None, (claimed, go, "n" if claimed else "", who))
        else:
            go_on(f"floor_read{k}", "s1", (claimed, go, record, who))
    elif at == "s1":
        go_on(f"START{k}", "s2", run=put(w.run, k, w.run[k] + 1), started=put(w.started, k, w.started[k] + 1))
    elif at == "s2":
        go_on(f"exit{k}", "e", run=put(w.run, k, max(0, w.run[k] - 1)))
    else:
        go_on(f"record{k}:{at}", None, (claimed, go, at if claimed else "", who))


def node_faults(w: World, out: list[Step]) -> None:
    left = w.left
    if left.reboot or left.power:
        dead = w._replace(boot=w.boot + 1, run=(0,) * len(w.run), sup=())
    if left.reboot:  # calls die with their connection; launches are let live on, which is harder than the truth
        net = tuple(m for m in w.net if m[0] in "LNG")
        out.append(("reboot", True, dead._replace(net=net, left=spend(w, "reboot"))))
    if left.power:
        dead = dead._replace(net=tuple(m for m in w.net if m[0] in "NG"), left=spend(w, "power"))
        for k, (claimed, go, record, who) in enumerate(w.disk):
            lost = {(claimed, go, "", who), (claimed, "", "", who), NEW} if go == "f" else set()
            for kept in lost - {(claimed, go, record, who)}:
                out.append((f"power_cut{k}", True, dead._replace(disk=put(w.disk, k, kept))))
        out.append(("power_cut", True, dead))
    if left.wipe:  # a runner in a spool that is gone can do nothing; supervisors live on
        out.append(("wipe", True, w._replace(
            spool=w.spool + 1, gen=0, floor=(0, ()), disk=(NEW,) * len(w.disk), net=tuple(m for m in w.net if m[0] in "NG"),
            head=w.head and (0, None, w.head[2]), left=spend(w, "wipe"))))  # fmt: skip


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
    """Settled as REBOOTED; or it would have been, had the store not been put back."""
    return w.rows[k][0] == "B" or (w.left.restore < first.left.restore and w.la[k][0] != w.boot)


def asked_to_end(w: World, first: World) -> bool:
    return w.left.cancel < first.left.cancel or w.left.requeue < first.left.requeue


def is_done(w: World) -> bool:
    """Nothing is open, and the job is over or has no launch left in this model."""
    return not any(row[0] in OPEN for row in w.rows) and (w.job in FINAL or None not in w.la)
