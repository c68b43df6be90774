"""Many small calls: pi by throwing darts, on processes that stay up (each is a job), as with multiprocessing.Pool.

Run it: `python pool_pi.py [PROCESSES] [CALLS]`
"""

import random
import sys

import sshq

DARTS = 10_000


def throw(seed: int) -> int:
    """Return how many of DARTS darts hit the circle."""
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(DARTS))


processes, calls = [int(word) for word in sys.argv[1:]] or (4, 200)
with sshq.Pool(processes, time="10:00") as pool:
    hits = done = 0
    for hit in pool.imap_unordered(throw, range(calls), chunksize=5):  # as they come; a lost process is replaced
        hits, done = hits + hit, done + 1
        if done % 50 == 0:
            print(f"{done:5d} calls: pi is about {4 * hits / (done * DARTS):.4f}")
for loss in pool.losses:  # nothing is missing from the sum: what a lost process had ran again elsewhere
    print("note:", loss)
