"""What runs on a node for a call of a Python function: one plain text, given to whatever Python is there.  No sshq needed.

It reads the call from the script it stands in, calls, and writes $SSHQ_RESULT: a line of JSON (ok, size, traceback), then a
pickle.  Written for Python 3.8 and newer; `sshq.api.calls` is its other half.
"""


def _main():
    import base64
    import hashlib
    import json
    import os
    import pickle
    import sys
    import traceback
    import types
    import zlib

    def read_call(script):
        with open(script, "rb") as file:
            text = file.read().partition(b"\n#CALL\n")[2]
        call = json.loads(text)
        place = call.get("file")
        if place is None:
            return call
        try:
            with open(place["path"], "rb") as file:
                text = file.read()
        except OSError as error:
            raise RuntimeError(
                "%s cannot be read on this host (%s): the call is larger than what travels with the job (%d bytes), "
                "so its folder must be shared with the hosts that run it" % (place["path"], error.strerror, place["size"])
            )
        if hashlib.sha256(text).hexdigest() != place["sha256"]:
            raise RuntimeError("%s is not what was submitted" % place["path"])
        return json.loads(text)

    def bring_cloudpickle(source):
        try:
            import cloudpickle
        except ImportError:
            package = types.ModuleType("cloudpickle")
            module = types.ModuleType("cloudpickle.cloudpickle")
            package.__path__ = []
            sys.modules["cloudpickle"], sys.modules["cloudpickle.cloudpickle"] = package, module
            exec(compile(zlib.decompress(base64.b64decode(source)), "cloudpickle", "exec"), module.__dict__)
            package.cloudpickle = module
            for name in ("dumps", "loads", "dump", "load"):
                if hasattr(module, name):
                    setattr(package, name, getattr(module, name))

    def dump(value):
        try:
            return pickle.dumps(value, 4)
        except Exception:
            import cloudpickle

            return cloudpickle.dumps(value, 4)

    def leave(ok, body, note=None):
        head = {"ok": ok, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        head.update(note or {})
        with open(os.environ["SSHQ_RESULT"], "wb") as file:
            file.write(json.dumps(head).encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())

    result = os.environ["SSHQ_RESULT"]
    try:
        call = read_call(sys.argv[1])
        sys.path[1:1] = [path for path in call["path"] if path not in sys.path and os.path.isdir(path)]
        if call["cloudpickle"]:
            bring_cloudpickle(call["cloudpickle"])
        index = int(os.environ["SLURM_ARRAY_TASK_ID"]) if len(call["calls"]) > 1 else 0
        function = pickle.loads(base64.b64decode(call["function"]))
        args, kwargs = pickle.loads(base64.b64decode(call["calls"][index]))
        sys.argv = [getattr(function, "__qualname__", "call")]
        value = function(*args, **kwargs)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        body = dump(value)
    except SystemExit as error:
        leave(False, b"", {"type": "SystemExit", "message": str(error.code), "traceback": traceback.format_exc()})
        raise
    except BaseException as error:
        text = traceback.format_exc()
        try:
            body = dump(error)
            pickle.loads(body)  # not every exception that can be written can be read
        except Exception:
            body = b""
        os.environ["SSHQ_RESULT"] = result
        leave(False, body, {"type": type(error).__name__, "message": str(error), "traceback": text})
        sys.stderr.write(text)
        sys.stderr.flush()
        os._exit(1) if isinstance(error, KeyboardInterrupt) else sys.exit(1)
    os.environ["SSHQ_RESULT"] = result
    leave(True, body)


_main()
