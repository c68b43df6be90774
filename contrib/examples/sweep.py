"""A sweep with your own script: `train.sh` for several settings, results as they come, and a report job after all of them.

Run it: `python sweep.py`
"""

import concurrent.futures
from pathlib import Path

import sshq

client = sshq.Client()
script = Path(__file__).with_name("train.sh")
jobs = {client.submit(script, str(epochs), time="5:00", name=f"train{epochs}"): epochs for epochs in (1, 2, 3)}
ids = ":".join(str(job.job_id) for job in jobs)
report = client.submit(["echo", "all of", ids, "are done"], dependency=f"afterok:{ids}")

for job in concurrent.futures.as_completed(jobs):  # each is a Future; nothing is polled
    try:
        ending = job.result()
    except sshq.JobFailedError as error:
        print("failed:", error)
    else:
        print(f"{jobs[job]} epochs: {ending.state} on {ending.node}, last line: {job.stdout().splitlines()[-1]}")
print(report.result().state, report.stdout(), end="")
