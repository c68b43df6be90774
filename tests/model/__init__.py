"""An explicit-state model of the launch protocol: what it proves, what it leaves out.

`model.py` is the world and its promises, `moves.py` every step, `explore.py` the walks, `test_model.py` the scenarios and
the proof that each guard is needed.  All of it is a description beside the code, not the code: a rule that is true here and
missing there is not found by these tests.  `GUARDS` says each rule in a sentence; where it is carried out:

* `runner/calls.sh`, `start.sh`: claim, refused, boot, floor, gcorder, mono, forgot, and the node's half of reserve and fence
* `runner/supervisor.sh`: ident, go, floorlate, claimlate; `lease.sh`: leaselate
* `core/lease.py`: leasewait; `controller/leases.py`, `call_renew`: leasefrom
* `core/reconcile.py`: absence, spoolword, bootword, adopt, supersede, newest, spare, and when to fence
* `core/settle.py`, `control.py`: txguard, requeue, lostspool, cancel
* `core/cluster.py`: openset (`floor_of`); `core/restored.py`: held, heldlive, noted
* `controller/joining.py`: reserve, epochread; `hosts.py`: listed, floorword; `mailbox.py`, `store/jobs.py`: intent, dbfence

With several hosts, which the model has not, `noted` asks for all of them, a release after a restore waits likewise, and a
job that ended by an older launch than the one found later on another host goes on with that one.

**The world.**  One host and account.  One job with two launches (four in the walks), each call of which is on its way once
or twice; with `older`, another job's launch that stands on the node, its supervisor about to take `go` and a copy of its
call still under way.  Calls (launch, fence, cancel, raise the floor, remove) and replies (refused, forgotten) are messages
that come late, in any order, twice or never, and outlive the controller that sent them: harder than the truth, where a
connection is a FIFO and its runner dies when the next one takes over.  Reserving a generation and the first listing are two
steps, with anything in between.

**Faults**, each with a budget: kill -9 of the controller (which a lost connection is a case of); reboot; power cut, which
may undo the record, or `go` too, or all of a launch; kill -9 of a supervisor, or of a runner between claim and spawn; a
second controller on the same store; cancel; requeue by the user; the store put back to any earlier state; the spool wiped
while its processes live on, with a supervisor that had looked at its claim before and takes `go` in the new spool; no room
for the claim; the leases of all launches being over.

**Leases** are time, which the model has not: their end on the node is an event, and that the node ends what runs by then, before
our longer wait is over, is an axiom (`lease_steps`); what breaks it stands in ARCHITECTURE.md, section 4.  What is shown is the rest:
orders and renewals that come late, supervisors between `go` and start, whatever else goes wrong meanwhile.

**Promises** (`find_violation`): never two launches of one job at once; no launch twice; one accounting row a launch; never
"never started" of what ran, nor "completed" of what did not; a final job does not run; nothing starts that is settled, or
whose job has ended, or again without proof of death; no open launch is refused as settled; nothing is killed unasked.  And
from every world that is reached the job can still end without a further fault.  What a wiped spool leaves running is
excepted from "a final job does not run" (it ends as SPOOL_LOST, a promise nobody can keep) but never leads to a second
start; after a release that follows a restore the user answers for a second run, not for two at once.

**How far.**  Exhaustive, no violation, no world that cannot end (launches x copies of a call):

    in each run of the tests: no fault 4 157 worlds (2x2), kill9 51 612, reboot 27 147, power 22 404, pkill 15 467, second
    44 800, cancel 27 241, requeue 28 332, wipe 14 338, full 10 006, restore 87 183 (2x1); with the older launch (1x1) kill9
    44 429, reboot 19 961, pkill 15 864, cancel 24 815, second 37 669, wipe 20 160 (1x2); pairs (2x1) kill9+pkill 32 756,
    kill9+wipe 48 131, reboot+wipe 27 581, reboot+cancel 40 294, reboot+pkill 22 152, pkill+cancel 15 405, wipe+cancel
    21 615, wipe+requeue 24 934, restore+cancel 7 562 (1x1)
    with leases kill9 87 051, second 78 880, wipe 29 390, pkill 20 438 (2x1), cancel+kill9 4 219, reboot+kill9 3 887, restore
    4 254 (1x1)
    campaign (`python -m model.explore`): restore 281 885 (2x2) and 281 020 (1x1, older); with restore (2x1) cancel 539 512,
    reboot 395 185, wipe 249 513, full 174 463, kill9 675 786, requeue 852 604, pkill 174 708; (2x2) kill9 twice 250 410,
    kill9+reboot 241 797, kill9+cancel 205 819, kill9+second 304 607, second+cancel 180 233, wipe+requeue 70 759, power+kill9 190 346,
    reboot+cancel+pkill 239 809; no fault, three launches of the job 98 540

Random walks with up to two of every fault at once, four launches, two copies, the older launch: 100 000 (6.3 million
steps) without a violation; 2 000 in each run.  Walks are not complete: of single guards left out, 1 500 walks find most,
and not those that need a long prelude after a restore.

**Reductions.**  A lost message is one that is never taken.  Sending once is sending twice with one copy lost.  A listing is
acted upon when it is read: with one controller nothing on the node depends on the store between the two, and a deposed
one is stopped by the epoch; only without that guard (`dbfence`) its age is modelled.  Once nothing more can go wrong,
launch calls that can only be refused are dropped.

**Not modelled**: several hosts or accounts (so a restored job whose newer launch is on a host that has not been listed yet);
arrays, steps, `--retries`, `--no-requeue`, time limits, suspended jobs; an administrator who declares a node down;
a power cut that undoes floor or generation (the boot then differs, and the boot check refuses every older call); half
written and half removed files (the record is valid only as two equal lines); the files of one launch removed by hand in a
spool that keeps its id; reuse of job numbers after a restore; clocks; the store itself (a transaction is one step); two
runners at once in one spool; processes that leave their session.  A controller reads the store, not a memory of its own.
"""
