"""What both ends of the socket agree on: the version, the frames, the methods, the limits.

A frame is a 4-byte big-endian length of the body, one byte of kind, the body.  Kind J is one strict JSON object,
kind D is raw data of the running stream and goes from the controller to the client only.  One connection carries
one request at a time: a request, then items or data if its method streams, then exactly one reply.
"""


PROTOCOL = 1
# Asked and answered alike in every version, for ever: so a controller of another release can be recognised and stopped.
TIMELESS = frozenset({"ping", "status", "down"})

JSON_FRAME = 0x4A  # b"J"
DATA_FRAME = 0x44  # b"D"
HEADER_BYTES = 5

JSON_BYTES_MAX = 8 << 20  # a script may have 4 MiB, and JSON can double it
STRANGER_BYTES_MAX = 64 << 10  # a frame from a uid that may only list: it cannot make the controller buffer much
DATA_BYTES_MAX = 256 << 10
DEPTH_MAX = 32
ITEMS_MAX = 500  # of one frame
ITEMS_BYTES_AIM = 1 << 20  # a frame of items larger than this is split while it can be
SOCKET_PATH_BYTES_MAX = 107  # sun_path of Linux, without the closing NUL

# What a method sends before its reply.  The key is the method's name in a request.
METHODS: dict[str, str] = {
    "ping": "nothing",
    "submit": "nothing",
    "submit_many": "nothing",
    "jobs": "items",
    "info": "nothing",
    "cancel": "nothing",
    "wait": "items",
    "events": "items",
    "history": "items",
    "steps": "items",
    "cancel_steps": "nothing",
    "update_job": "nothing",
    "hold": "nothing",
    "release": "nothing",
    "requeue": "nothing",
    "suspend": "nothing",
    "resume": "nothing",
    "top": "nothing",
    "update_node": "nothing",
    "update_partition": "nothing",
    "reservation": "nothing",
    "logs": "data",
    "script": "nothing",
    "why": "nothing",
    "provenance": "nothing",
    "status": "nothing",
    "hosts": "nothing",
    "hosts_retry": "nothing",
    "hosts_accept": "nothing",
    "hosts_remove": "nothing",
    "reload": "nothing",
    "doctor": "nothing",
    "shared": "nothing",
    "purge": "nothing",
    "down": "nothing",
    "controller_log": "data",
    "job_files": "items",
    "job_file": "data",
    "stats": "nothing",
    "follow_job": "items",
    "part_start": "nothing",
    "part_output": "data",
    "part_input": "nothing",
    "part_signal": "nothing",
    "finish": "nothing",
    "attach": "data",
    "attach_input": "nothing",
}

# The stable words of a refusal; the text beside them is Slurm's where it has one.
CODES = frozenset(
    {
        "denied", "unknown_job", "unknown_partition", "bad_request", "version", "not_now", "too_large", "internal",
        "crowded",  # nobody has looked at the request: ask again
    }
)  # fmt: skip
