"""The thread that hears of jobs, told things that no controller says: whoever waits is told, not left waiting."""

import socket
import threading

import pytest

from sshq.api.client import Client
from sshq.api.jobs import Job
from sshq.errors import SshqError
from sshq.wire.codec import decode_json, frame_json


@pytest.mark.parametrize(("news", "said"), [
    ({}, "what the controller told of jobs cannot be taken in: KeyError"),
    ({"job": {"job_id": 1, "state": "COMPLETED", "submit_at": "soon"}}, "could not convert string to float"),
])  # fmt: skip
def test_news_that_cannot_be_taken_in_end_the_waiting(tmp_path, news, said):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "sock"))
    server.listen()
    listening = threading.Event()

    def tell() -> None:
        client, _ = server.accept()
        with client:
            request = decode_json(client.recv(65536)[5:])
            client.sendall(frame_json({"id": request["id"], "items": [{"event": "listening"}]}))
            listening.wait(20)
            client.sendall(frame_json({"id": request["id"], "items": [{"event": "job", "over": True, **news}]}))

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        client = Client(environ={"SSHQ_HOME": str(tmp_path)})
        with client._watcher.expecting() as claim:
            job = Job(client, 1)
            claim([job])
            listening.set()
            with pytest.raises((SshqError, ValueError), match=said):
                job.result(20)
    finally:
        listening.set()
        thread.join()
        server.close()
