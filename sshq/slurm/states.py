"""Job states as squeue, scancel and sacct name them: long and short names, their order, reading a list of them."""

STATES: tuple[tuple[str, str], ...] = (  # in Slurm's order, which is also the order of a sort by state
    ("PENDING", "PD"), ("RUNNING", "R"), ("SUSPENDED", "S"), ("COMPLETED", "CD"), ("CANCELLED", "CA"), ("FAILED", "F"),
    ("TIMEOUT", "TO"), ("NODE_FAIL", "NF"), ("PREEMPTED", "PR"), ("BOOT_FAIL", "BF"), ("DEADLINE", "DL"),
    ("OUT_OF_MEMORY", "OOM"), ("COMPLETING", "CG"), ("CONFIGURING", "CF"), ("RESIZING", "RS"), ("RESV_DEL_HOLD", "RD"),
    ("REQUEUED", "RQ"), ("REQUEUE_FED", "RF"), ("REQUEUE_HOLD", "RH"), ("REVOKED", "RV"), ("SIGNALING", "SI"),
    ("SPECIAL_EXIT", "SE"), ("STAGE_OUT", "SO"), ("STOPPED", "ST"),
)  # fmt: skip
COMPACT = dict(STATES)
ORDER = {name: number for number, (name, _) in enumerate(STATES)}
ACTIVE = frozenset(("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED", "SIGNALING", "STAGE_OUT"))
VALID_STATES = ",".join(name for name, _ in STATES)
_BY_NAME = {key: name for name, short in STATES for key in (name, short)}


def read_states(text: str) -> frozenset[str] | None:
    """Return the states of a list such as "PD,running", None for "all".

    Raises:
        ValueError: an unknown state; the message is that word.
    """
    states = set()
    for word in text.split(","):
        if not word:
            continue
        if word.lower() == "all":
            return None
        name = _BY_NAME.get(word.upper())
        if name is None:
            raise ValueError(word)
        states.add(name)
    return frozenset(states)
