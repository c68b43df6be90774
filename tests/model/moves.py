"""Every step that can follow a world: the controllers', the user's, the network's, the node's, and the faults.

`steps` gives each successor with its name and whether it is a fault.  A message that is never taken was lost; one that
was sent twice, or stays while others pass it, was duplicated or late.
"""

from typing import Any

from model.model import (
    NEW,
    OPEN,
    SEQS,
    SETTLED,
    Guards,
    World,
    add,
    adopt,
    drop,
    is_alive,
    is_settled,
    judge,
    open_seqs,
    put,
    raise_floor,
    settle,
    spend,
    take,
    unknown_launches,
)

Step = tuple[str, bool, World]


def steps(w: World, g: Guards, copies: int) -> list[Step]:
    """Everything that can happen next: (name, is it a fault, the world after it)."""
    out: list[Step] = []
    store_steps(w, g, out)
    if w.head:
        head_steps(w, g, copies, out)
    if w.old:
        old_steps(w, g, copies, out)
    lease_steps(w, g, out)
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


def lease_steps(w: World, g: Guards, out: list[Step]) -> None:
    """Time: the node's, then ours, which runs for longer.  That a node ends in time what it can end is an axiom here."""
    if w.left.lease:
        late = tuple(int(la is not None) for la in w.la)
        out.append(("leases_over", True, w._replace(late=late, left=spend(w, "lease"))))
    for k, late in enumerate(w.late):
        if late and w.run[k] > sum(x[0] == k and x[2] == "s2" for x in w.sup):
            out.append((f"lease{k}_by_the_watchdog", False, w._replace(run=put(w.run, k, w.run[k] - 1))))
        waited = (late and not w.run[k]) or ("leasewait" not in g and w.left.lease)
        if k and waited and w.head and w.head[0] == 0 and w.rows[k][0] in OPEN:
            out.append((f"give_up{k}", False, settle(w, k, "E", g)))
        if k and "leasefrom" not in g and w.head and w.head[0] == 2 and w.rows[k][0] in OPEN and ("W", k) not in w.net:
            out.append((f"renew{k}", False, w._replace(net=add(w.net, ("W", k)))))  # with it, a late one is as good as none


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
    if kind == "W":
        out.append((f"renewed{k}", False, new._replace(late=put(w.late, k, 0))))
    elif kind == "L":
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
    elif at == "s1" and w.late[k] and "leaselate" in g:
        go_on(f"refuse{k}:lease", None, (claimed, go, "n" if claimed else "", who))
    elif at == "s1":
        go_on(f"START{k}", "s2", run=put(w.run, k, w.run[k] + 1), started=put(w.started, k, w.started[k] + 1))
    elif at == "s2":
        if w.late[k]:
            go_on(f"lease{k}", "l", run=put(w.run, k, max(0, w.run[k] - 1)))
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
