"""The smallest one: a function called on the hosts of the queue, once and a hundred times.

Run it: `python square.py`
"""

import sshq


def square(x: int) -> int:
    print(f"squaring {x}")  # what a call prints is its job's output
    return x * x


with sshq.Executor(time="5:00") as executor:  # options are sbatch's: time, cpus, memory, gpus, partition, …
    one = executor.submit(square, 7)  # a concurrent.futures.Future, and a job: squeue shows it
    print(one.result(), "from job", one.job_id, "on", one.node)
    print(one.stdout(), end="")
    print(sum(executor.map(square, range(20), chunksize=5)))  # one job array, five calls a task
