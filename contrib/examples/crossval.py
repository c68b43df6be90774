"""Cross-validation with numpy: which ridge penalty is best?  The same folds by `Executor` (a job each) and by `Pool`.

Run it: `python crossval.py [PROCESSES]`

numpy has to be installed on the hosts for the same Python as here: in the same virtual environment where that is shared, or with
`sshq_python` in the inventory.  `requires=` makes sure of it before anything is queued.
"""

import itertools
import sys

import numpy as np

import sshq

FOLDS, ROWS, COLUMNS = 10, 2_000, 30
PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0]


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Return the same data everywhere: a seed travels better than a matrix."""
    rng = np.random.default_rng(42)
    x = rng.normal(size=(ROWS, COLUMNS))
    return x, x @ rng.normal(size=COLUMNS) + rng.normal(scale=3.0, size=ROWS)


def error_of(penalty: float, fold: int) -> float:
    """Return the mean squared error on one fold of a ridge regression on the others."""
    x, y = make_data()
    out = np.arange(ROWS) % FOLDS == fold
    gram = x[~out].T @ x[~out] + penalty * np.eye(COLUMNS)
    weights = np.linalg.solve(gram, x[~out].T @ y[~out])
    return float(np.mean((x[out] @ weights - y[out]) ** 2))


def main() -> None:
    grid = list(itertools.product(PENALTIES, range(FOLDS)))
    with sshq.Executor(time="10:00", requires=["numpy>=1.20"]) as executor:
        errors = list(executor.map(error_of, *zip(*grid), chunksize=FOLDS))  # one array, a task for each penalty
    with sshq.Pool(int(sys.argv[1]) if len(sys.argv) > 1 else 4, time="10:00", requires=["numpy>=1.20"]) as pool:
        again = pool.starmap(error_of, grid)
    assert np.allclose(errors, again), "the two ways differ"
    for penalty in PENALTIES:
        mean = np.mean([error for (one, _), error in zip(grid, errors) if one == penalty])
        print(f"penalty {penalty:6}: mean squared error {mean:.4f}")


if __name__ == "__main__":
    main()
