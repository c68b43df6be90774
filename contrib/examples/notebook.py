"""As in a notebook: cells, functions of the session itself, progress while jobs run, and asyncio.

Paste the cells into Jupyter or IPython (their functions live in `__main__` and travel by value), or run it: python notebook.py
"""

# %% a function that was just typed in; names it uses from other cells travel with it
import asyncio
import math

import sshq

OFFSET = 10


def slow_sqrt(x):
    if x < 0:
        raise ValueError(f"{x} has no real root")
    return math.sqrt(x) + OFFSET


# %% without `with`: jobs go on, whatever becomes of the kernel
executor = sshq.Executor(time="5:00")
jobs = executor.map_array(slow_sqrt, [4, 9, -1])

# %% a notebook has a loop already: `await` works with wrap_future
async def gather():
    return await asyncio.gather(*(asyncio.wrap_future(job) for job in jobs), return_exceptions=True)


results = asyncio.run(gather())  # in Jupyter: results = await gather()
for job, result in zip(jobs, results):
    print(job.state, repr(result))

# %% the error has the node's own traceback as its cause
print("cause:", str(results[2].__cause__).strip().splitlines()[-1])
