"""What runs on a node for a call of a Python function: one plain text, given to whatever Python is there.  No sshq needed.

It reads the call from the script it stands in, calls, and writes $SSHQ_RESULT: a line of JSON (ok, size, traceback), then a
pickle.  Written for Python 3.8 and newer; `sshq.api.calls` is its other half.
"""

import base64 as _base64
import hashlib as _hashlib
import json as _json
import os as _os
import pickle as _pickle
import sys as _sys
import traceback as _traceback
import zlib as _zlib


def _read_call(script):
    with open(script, "rb") as file:
        text = file.read().partition(b"\n#CALL\n")[2]
    call = _json.loads(text)
    place = call.get("file")
    if place is None:
        return call
    brought = _os.path.exists(place["beside"]) and not _os.path.exists(place["path"])
    try:
        with open(place["beside"] if brought else place["path"], "rb") as file:
            text = file.read()
    except OSError as error:
        raise RuntimeError(
            "%s cannot be read on this host (%s): the call is larger than what travels with the job (%d bytes), "
            "so its folder must be shared with the hosts that run it" % (place["path"], error.strerror, place["size"])
        )
    if _hashlib.sha256(text).hexdigest() != place["sha256"]:
        raise RuntimeError("%s is not what was submitted" % place["path"])
    return _json.loads(text)


def _bring_cloudpickle(source, version):
    try:
        import cloudpickle

        if cloudpickle.__version__ == version:
            return
    except Exception:
        pass
    import types

    # Ours: another version might not read what this one wrote.
    package = types.ModuleType("cloudpickle")
    module = types.ModuleType("cloudpickle.cloudpickle")
    package.__path__, package.__version__ = [], version
    _sys.modules["cloudpickle"], _sys.modules["cloudpickle.cloudpickle"] = package, module
    exec(compile(_zlib.decompress(_base64.b64decode(source)), "cloudpickle", "exec"), module.__dict__)
    package.cloudpickle = module
    for name in ("dumps", "loads", "dump", "load", "Pickler", "register_pickle_by_value", "unregister_pickle_by_value"):
        if hasattr(module, name):
            setattr(package, name, getattr(module, name))


def _unpack(shipment):
    if shipment:
        import io
        import tempfile
        import zipfile

        folder = tempfile.mkdtemp(prefix="sshq-ship-")  # in the job's TMPDIR, which is emptied when it ends
        zipfile.ZipFile(io.BytesIO(_base64.b64decode(shipment))).extractall(folder)
        _sys.path.insert(1, folder)


def _dump(value):
    try:
        return _pickle.dumps(value, 4)
    except Exception:
        import cloudpickle

        return cloudpickle.dumps(value, 4)


class _UnpicklableResult(Exception):
    pass


def _dump_result(value):
    try:
        return _dump(value)
    except Exception as error:
        raise _UnpicklableResult("what the function returned, a %s, cannot be pickled: %s" % (type(value).__name__, error))


class _AsItIs:
    """An exception that its class cannot be called to make again: it has an __init__ of its own, which takes other arguments."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        error = self.error
        return error.__new__, (type(error),) + error.args, error.__dict__


def _dump_error(error):
    for value in (error, _AsItIs(error)):
        try:
            body = _dump(value)
            again = _pickle.loads(body)  # not every exception that can be written can be read
            if value is error or str(again) == str(error):
                return body
        except Exception:
            pass
    return b""


def _leave(path, ok, body, note=None):
    head = {"ok": ok, "size": len(body), "sha256": _hashlib.sha256(body).hexdigest()}
    head.update(note or {})
    with open(path, "wb") as file:
        file.write(_json.dumps(head).encode() + b"\n" + body)
        file.flush()
        _os.fsync(file.fileno())


def _call(script):
    call = _read_call(script)
    _sys.path[1:1] = [path for path in call["path"] if path not in _sys.path and _os.path.isdir(path)]
    if call["cloudpickle"]:
        _bring_cloudpickle(*call["cloudpickle"])
    _unpack(call["ship"])
    calls = _pickle.loads(_zlib.decompress(_base64.b64decode(call["calls"])))
    index = int(_os.environ["SLURM_ARRAY_TASK_ID"]) if len(calls) > 1 else 0
    function = _pickle.loads(_base64.b64decode(call["function"]))
    args, kwargs = _pickle.loads(calls[index])
    del call, calls
    _sys.argv = [getattr(function, "__qualname__", "call")]
    value = function(*args, **kwargs)
    for stream in (_sys.stdout, _sys.stderr):
        stream.flush()
    return _dump_result(value)


def _main(result):
    try:
        body = _call(_sys.argv[1])
    except SystemExit as error:
        note = {"type": "SystemExit", "message": str(error.code), "traceback": _traceback.format_exc()}
        _leave(result, False, b"", note)
        raise
    except _UnpicklableResult as error:
        _leave(result, False, b"", {"type": "UnpicklableResult", "message": str(error), "traceback": ""})
        _sys.exit("sshq: " + str(error))
    except BaseException as error:
        text = _traceback.format_exc()
        _leave(result, False, _dump_error(error), {"type": type(error).__name__, "message": str(error), "traceback": text})
        _sys.stderr.write(text)
        _sys.exit(1)
    _leave(result, True, body)


if __name__ == "__main__":
    _main(_os.environ["SSHQ_RESULT"])
