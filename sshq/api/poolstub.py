"""A worker of `sshq.Pool` on a node: one plain text, given to whatever Python is there.  No sshq needed.

Frames come by standard input and go by the standard output it was started with: 8 hex digits of length, a newline, the bytes.
The first frame is JSON (paths, cloudpickle's text, initializer); each other one a pickle (number, function, argument tuples),
answered by a pickle (number, ok, results or (error, type, message, traceback), seconds).  What the functions print goes to standard
error.  Written for Python 3.8 and newer; `sshq.api.pool` is its other half.
"""

import base64 as _base64
import io as _io
import json as _json
import os as _os
import pickle as _pickle
import sys as _sys
import time as _time
import traceback as _traceback
import zlib as _zlib

_IN = _os.fdopen(_os.dup(0), "rb")
_OUT = _os.fdopen(_os.dup(1), "wb")


def _read(stream):
    head = stream.read(9)
    if len(head) < 9:
        _leave()
    size = int(head, 16)
    data = stream.read(size)
    if len(data) < size:
        _leave()
    return data


def _leave():
    _os._exit(0)  # whoever asked has gone: what daemon threads of the functions do is nobody's business any more


def _write(body):
    _OUT.write(b"%08x\n" % len(body) + body)
    _OUT.flush()


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
        import tempfile
        import zipfile

        folder = tempfile.mkdtemp(prefix="sshq-ship-")  # in the job's TMPDIR, which is emptied when it ends
        zipfile.ZipFile(_io.BytesIO(_base64.b64decode(shipment))).extractall(folder)
        _sys.path.insert(1, folder)


_STAND_INS = {}


class _Reader(_pickle.Unpickler):
    """Cloudpickle itself stays as it is: what is changed there it would take for ours, and try to send along with a result."""

    def find_class(self, module, name):
        return _STAND_INS.get((module, name)) or super().find_class(module, name)


def _loads(data):
    return _Reader(_io.BytesIO(data)).load()


def _share_globals():
    """Functions of one module that come one after the other see one set of globals, as in a forked process: what the initializer
    set is there, and what came first stays."""
    import types

    from cloudpickle import cloudpickle as module

    shared = {}
    set_state = module._function_setstate

    def make_function(code, globals, name, argdefs, closure):
        own = shared.setdefault((globals.get("__name__"), globals.get("__file__")), globals)
        own["__builtins__"] = __builtins__
        return types.FunctionType(code, own, name, argdefs, closure)

    def set_function_state(function, state):
        slots = state[1]
        slots["__globals__"] = {k: v for k, v in slots["__globals__"].items() if k not in function.__globals__}
        return set_state(function, state)

    _STAND_INS[module.__name__, "_make_function"] = make_function
    _STAND_INS[module.__name__, "_function_setstate"] = set_function_state


def _dump(value):
    try:
        return _pickle.dumps(value, 4)
    except Exception:
        import cloudpickle

        return cloudpickle.dumps(value, 4)


class _UnpicklableResult(Exception):
    pass


def _dump_results(results):
    try:
        return _dump(results)
    except Exception as error:
        raise _UnpicklableResult("what the function returned cannot be pickled: %s" % error)


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


def _answer_error(number, error, took):
    text = "" if isinstance(error, _UnpicklableResult) else _traceback.format_exc()
    packed = b"" if isinstance(error, (SystemExit, _UnpicklableResult)) else _dump_error(error)
    _write(_pickle.dumps((number, False, (packed, type(error).__name__.lstrip("_"), str(error), text), took), 4))


def _begin(setup):
    _sys.path[1:1] = [path for path in setup["path"] if path not in _sys.path and _os.path.isdir(path)]
    _unpack(setup["ship"])
    _bring_cloudpickle(*setup["cloudpickle"])
    _share_globals()


def _initialize(setup):
    try:
        if setup["initializer"]:
            function, args = _loads(_base64.b64decode(setup["initializer"]))
            function(*args)
    except BaseException as error:
        _answer_error(-1, error, 0.0)
        raise
    _write(_pickle.dumps((-1, True, list(_sys.version_info[:2]), 0.0), 4))


def _work(stream):
    """Answer frames until there are no more."""
    functions = {}
    while True:
        frame = _read(stream)
        number, begun = None, _time.perf_counter()
        try:
            number, name, packed, calls = _pickle.loads(frame)
            if packed:
                functions[name] = _loads(packed)
            function = functions[name]
            results = _dump_results([function(*args, **kwargs) for args, kwargs in _loads(calls)])
            for out in (_sys.stdout, _sys.stderr):
                out.flush()
            _write(_pickle.dumps((number, True, results, _time.perf_counter() - begun), 4))
        except BaseException as error:
            _answer_error(number, error, _time.perf_counter() - begun)


def _work_in_lives(setup, chunks):
    """A child does so many chunks, then another takes over: it is given what the others knew of functions."""
    known = {}
    while True:
        source, sink = _os.pipe()
        child = _os.fork()
        if not child:
            _os.close(sink)
            _initialize(setup)
            _work(_os.fdopen(source, "rb"))
        _os.close(source)
        told = set()
        with _os.fdopen(sink, "wb") as out:
            for _ in range(chunks):
                head = _IN.read(9)
                frame = _IN.read(int(head, 16)) if len(head) == 9 else b""
                if not frame:
                    break
                number, name, packed, calls = _pickle.loads(frame)
                known[name] = packed or known[name]
                frame = _pickle.dumps((number, name, b"" if name in told else known[name], calls), 4)
                told.add(name)
                try:
                    out.write(b"%08x\n" % len(frame) + frame)
                    out.flush()
                except BrokenPipeError:
                    break  # it has ended: its status tells
        status = _os.waitpid(child, 0)[1]
        if status:
            _os._exit(status >> 8 or 128 + (status & 127))
        if not frame:
            _os._exit(0)


if __name__ == "__main__":
    _os.dup2(_os.open(_os.devnull, _os.O_RDONLY), 0)
    _os.dup2(2, 1)
    _setup = _json.loads(_read(_IN))
    _begin(_setup)
    if _setup["lives"]:
        _work_in_lives(_setup, _setup["lives"])
    _initialize(_setup)
    _work(_IN)
