"""Deterministic simulation: the real controller, in a world that is made of nothing but a seed.

    python -m tests.sim 4711                  one short seed; if it fails: the shortest trace that can be found
    python -m tests.sim 4711 --scale long     24 simulated hours, 20 hosts, 2000 jobs
    python -m tests.sim 4711 --trace          everything that happens, while it happens
    python -m tests.sim 4711 --drop 3,7,-2    without the faults 3 and 7 and without job 2 (what a shrunk seed prints)
    python -m tests.sim 4711 --without arbiter    on nodes that lack a guard (`Guards` in node.py)
    python -m tests.sim campaign --short 50000 --long 20 [--first N] [--processes N]

In CI: tests/sim/test_sim.py; `SSHQ_SIM_FIRST=N` sets the first of the rotating seeds (else the date does; it is printed).

**Real**: `controller/daemon.py` with everything below it (mailbox, links, sessions, fleet, inventory loader, submit desk,
outputs, upkeep, store on SQLite in files), the whole core, the encoder and parser of the runner's protocol.  Clients call
`Service.dispatch`; only the socket is left out.

**Simulated**, a file each:

    clock.py        time (an event loop that jumps from timer to timer), executors, processes that can be killed anywhere
    net.py          what transport/base.py promises, over paths that cut one way or both, stall, reset at byte k, refuse
    node.py         machines: processes, pids that come round, spools with an undo log for power cuts, reboots, the ledger
    parsing.py      the shell syntax of the calls
    shell.py        what runner.sh, start.sh, calls.sh do with the bytes that the controller really sends
    supervisor.py   what supervisor.sh does, step by step
    head.py         starting, killing, restoring the controller; its clients
    plan.py         seed -> machines, jobs, users' words, faults, each at a time or at an event on a node
    fate.py         what each fault does; words.py: what users say; choose.py: whom, and for how long
    oracle.py       ledgers against store, by plain SQL
    world.py        all of it together
    shrink.py       leaves out what a failure does not need

The shell programs themselves are not run here: `tests/runner` and `tests/hosts` do that.  A change of calls.sh or
supervisor.sh that matters to the protocol belongs into shell.py and supervisor.py as well; where a reply's form differs,
every seed fails.  Not simulated: steps (srun), processes that leave their session, shared directories, several accounts.
"""
