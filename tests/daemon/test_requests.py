"""The table of parameters: what it lets in can be carried out, by the scheduler, the store, the views and a node's shell.

So that the mailbox, which must end the controller when an event breaks halfway, never meets a request that does it.
"""

import json
import os
from types import SimpleNamespace

import pytest

from core.scenario import Scenario
from sshq.controller.filters import read_filter
from sshq.controller.jobdesk import _explain
from sshq.controller.launching import Material, build_call
from sshq.controller.requests import PARAMETERS, check_request
from sshq.controller.submission import encode_environ, read_description
from sshq.controller.views import history_view, live_job_view
from sshq.core import events as ev
from sshq.core.effects import KillLaunch, StartLaunch
from sshq.errors import RefusedError, SshqError
from sshq.inventory.config import Config
from sshq.inventory.model import Host
from sshq.runner.protocol import encode_kill, encode_launch
from sshq.slurm.jsonaccounts import sacct_document
from sshq.slurm.jsondoc import squeue_document
from sshq.slurm.show import render_job
from sshq.store.batch import prepare_batch
from sshq.wire.codec import decode_json, encode_json
from sshq.wire.protocol import METHODS
from sshq.wire.server import Peer

from .hostile_frames import DESCRIPTION, Hostile

REQUESTS = int(os.environ.get("SSHQ_FUZZ_FRAMES", "10000"))
PEER = Peer(uid=0, gid=0, pid=1)
HELLO = SimpleNamespace(uid=0, spool="/spool", home="/root", shell="/bin/sh", user="root")
CONTROLS = {"cancel", "hold", "release", "requeue", "suspend", "resume", "top"}


def test_every_method_has_its_parameters():
    assert PARAMETERS.keys() == METHODS.keys()


def carry_out(scenario, params, method):
    """What the desks make of a checked request; refusals are raised."""
    now = scenario.now
    if method == "submit":
        incoming = read_description(params, PEER, Config())
        encode_environ(incoming.environ)
        scenario.feed(
            ev.Submitted(now=now, spec=incoming.spec, script=incoming.script, token=params.get("token"), held=incoming.held, array=incoming.array)
        )
        return incoming
    refs = read_filter({"filter": {"refs": params.get("refs")}} if "refs" in params else params).refs or ()
    if method in CONTROLS:
        scenario.feed(
            ev.JobsControlled(now=now, verb=method, uid=0, admin=True, targets=refs, signal=params.get("signal"), batch_only=bool(params.get("batch")))
        )
    elif method == "update_job":
        changes = {k: v for k, v in (params.get("changes") or {}).items() if k not in ("hold", "held")}
        if "partition" in changes:
            given = changes.pop("partition")
            changes["partitions"] = given if isinstance(given, list) else given.split(",")
        changes.update({"requeue": "yes"} if "requeue" in changes else {})
        scenario.feed(ev.JobsControlled(now=now, verb="update", uid=0, admin=True, targets=refs, changes=changes))
    elif method == "purge":
        scenario.feed(ev.PurgeAsked(now=now, older_than_s=params.get("older_than_s"), job_ids=tuple(r.job_id for r in refs if r.tasks is None)))
    return None


def look_at(scenario, job_id):
    """All that is shown of one job."""
    job = scenario.cluster.jobs.get(job_id)
    if job is None:
        return
    view = decode_json(encode_json({"job": live_job_view(scenario.cluster, job)}))["job"]
    render_job(view, now=scenario.now)
    squeue_document([view])
    sacct_document([history_view(job, [], [])], 0.0)
    _explain(scenario.cluster, job, view, scenario.now)


def write_orders(effects, host):
    for effect in effects:
        if isinstance(effect, StartLaunch):
            material = Material(script=b"#!/bin/sh\n", environ={"A": "1"})
            encode_launch(build_call(effect.launch, effect.job, host=host, hello=HELLO, material=material, grace_s=30))
        elif isinstance(effect, KillLaunch):
            encode_kill(id=effect.launch_id, seq=effect.seq, mode="signal", signal=str(effect.signal))


@pytest.mark.slow
@pytest.mark.timeout(300 + REQUESTS // 100)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_let_in_can_be_carried_out(seed):
    hostile, granted, refused, launched = Hostile(seed), 0, 0, 0
    scenario = Scenario().nodes("n[1-4]", cpus=64, slots=64)
    host = Host(name="n1", address="127.0.0.1")
    for number in range(REQUESTS // 5):
        message = hostile.request()
        method, params = message.get("method"), message.get("params")
        if not isinstance(method, str) or not isinstance(params, dict) or number % 3 == 0:
            method, params = "submit", {"description": DESCRIPTION | {"comment": str(number), "memory_mib": 0}, "environ": {}}
        at = len(scenario.effects)
        try:
            params = decode_json(json.dumps({"p": params}).encode())["p"]
            check_request(method, params)
            carry_out(scenario, params, method)
            granted += 1
        except (RefusedError, ValueError) as error:
            assert isinstance(error, SshqError) or "pair" in str(error) or "deeper" in str(error) or "64 bits" in str(error), (seed, number, params)
            refused += 1
            continue
        scenario.plan()
        scenario.wait(1.0)
        write_orders(scenario.effects[at:], host)
        launched += sum(isinstance(e, StartLaunch) for e in scenario.effects[at:])
        prepare_batch(scenario.last.rows, {})
        look_at(scenario, max(scenario.cluster.jobs, default=0))
        for job in list(scenario.cluster.jobs.values())[-3:]:
            if job.state.name == "CONFIGURING" and number % 2:
                scenario.feed(ev.LaunchEnded(now=scenario.now, launch_id=job.launch_id, record=ev.EndRecord(how="exit", code=0)))
    assert granted > 500 and refused > 100 and launched > 50, (granted, refused, launched)
