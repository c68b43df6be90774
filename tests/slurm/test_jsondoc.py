"""The JSON documents: Slurm's top keys, and the keys programs read."""

import json

import pytest

from sshq.slurm.jsondoc import sacct_document, sinfo_document, squeue_document

from .recordings import JOBS, NODES, RUNNER


@pytest.mark.parametrize(
    ("document", "rows"), [(squeue_document(JOBS), "jobs"), (sinfo_document(NODES), "nodes"), (sacct_document(JOBS), "jobs")]
)
def test_documents_have_slurms_top_keys_and_are_json(document, rows):
    assert sorted(document) == sorted(["errors", rows, "meta"])
    assert document["meta"]["Slurm"]["release"] == "22.05.8"
    assert json.loads(json.dumps(document)) == document


def test_jobs_speak_in_slurms_units():
    job = squeue_document([RUNNER])["jobs"][0]
    assert (job["job_id"], job["job_state"], job["time_limit"], job["nodes"]) == (22483, "RUNNING", 10, "node3")
    array = squeue_document(JOBS)["jobs"][4]
    assert (array["array_job_id"], array["array_task_string"], array["array_max_tasks"]) == (22487, "0-5%2", 2)


def test_nodes_speak_in_slurms_units():
    node = sinfo_document(NODES)["nodes"][2]
    assert (node["name"], node["state"], node["cpu_load"], node["idle_cpus"]) == ("node3", "mixed", 108, 6)


def test_plugins_are_named_as_in_slurm():
    assert squeue_document([])["meta"]["plugin"]["type"] == "openapi/v0.0.38"
    assert sacct_document([])["meta"]["plugin"]["type"] == "openapi/dbv0.0.38"
