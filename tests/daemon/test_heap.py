"""A queue that grows costs the garbage collector what is new in it, not all of it again and again."""

import gc

from sshq.controller.heap import STEP, Heap


def test_what_a_growing_queue_consists_of_is_set_aside_by_portions():
    jobs: dict[int, list[object]] = {}
    heap, before = Heap(jobs), gc.get_freeze_count()
    try:
        frozen = []
        for job_id in range(3 * STEP):
            jobs[job_id] = [[], job_id]
            heap(None)
            if job_id % 1000 == 998:
                frozen.append(gc.get_freeze_count() - before)
        assert frozen[8] == 0
        assert len(set(frozen)) <= 4  # three times, not with each job
        assert frozen[-1] >= 2 * 3 * STEP
        full = gc.get_freeze_count()
        gc.collect()  # and no collection passes over them again
        assert len(gc.get_objects()) < 3 * STEP
        for job_id in range(STEP, 3 * STEP):  # what is not used any more is freed all the same
            del jobs[job_id]
            heap(None)
        assert gc.get_freeze_count() < full - 3 * STEP
        jobs.update((job_id, [[], job_id]) for job_id in range(STEP, 3 * STEP))
        again = gc.get_freeze_count()
        heap(None)
        assert gc.get_freeze_count() > again + 2 * STEP
    finally:
        gc.unfreeze()
