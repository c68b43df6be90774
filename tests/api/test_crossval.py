"""A real numeric workload on five hosts, with the controller killed in the middle: every result is right, every call is accounted."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "contrib" / "examples"
PROGRAM = """
import itertools, json, os, sys, time
import crossval, sshq

def call(penalty, fold):
    with open("begun", "a") as file:
        file.write(f"{penalty} {fold}\\n")
    while not os.path.exists("gate") and fold >= 4:  # half of them are under way, or wait, when the controller dies
        time.sleep(0.02)
    value = crossval.error_of(penalty, fold)
    with open("done", "a") as file:
        file.write(f"{penalty} {fold} {os.environ['SLURMD_NODENAME']}\\n")
    return value

grid = list(itertools.product(crossval.PENALTIES[:3], range(8)))
local = [crossval.error_of(*one) for one in grid]
if sys.argv[1] == "executor":
    executor = sshq.Executor(time="5:00", requires=["numpy"], name="fold")
    jobs = executor.map_array(call, *zip(*grid))
    jobs[0].result(60)
    print("going", flush=True)
    found, losses = [job.result(100) for job in jobs], []
else:
    with sshq.Pool(10, time="5:00", requires=["numpy"]) as pool:
        later = pool.starmap_async(call, grid, 1)
        while not os.path.exists("done"):
            time.sleep(0.02)
        print("going", flush=True)
        found, losses = later.get(100), pool.losses
print(json.dumps({"same": found == local, "count": len(found), "losses": losses}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["executor", "pool"])
def test_cross_validation_outlives_the_controller(loopback, instance, way):
    if importlib.util.find_spec("numpy") is None:
        pytest.skip("pip install numpy")
    if len(loopback.hosts) < 5:
        loopback.add(5 - len(loopback.hosts))
    instance.use(loopback.hosts[:5], sshq_slots=2, sshq_cpus=2, sshq_memory="4G")
    instance.up()
    instance.ready()
    work = Path(instance.work)
    (work / "crossval.py").write_text((EXAMPLES / "crossval.py").read_text())
    (work / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "program.py", way], cwd=work, env=instance.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n", instance.logs()
    instance.kill9()
    (work / "gate").touch()
    instance.up()
    out, _ = process.communicate(timeout=110)
    assert json.loads(out) == {"same": True, "count": 24, "losses": []}
    calls = [f"{penalty} {fold}" for penalty in (0.01, 0.1, 1.0) for fold in range(8)]
    assert Counter((work / "begun").read_text().splitlines()) == Counter(calls)  # each once: nothing lost, nothing twice
    done = [line.rpartition(" ") for line in (work / "done").read_text().splitlines()]
    assert Counter(call for call, _, _ in done) == Counter(calls)
    assert len({host for _, _, host in done}) == 5
    if way == "executor":
        rows = instance.out("sacct", "-n", "-P", "-X", "-D", "--name=fold", "-o", "jobid,state,exitcode").splitlines()
        assert Counter(row.partition("|")[2] for row in rows) == {"COMPLETED|0:0": 24}
        assert len({row.partition("|")[0] for row in rows}) == 24
