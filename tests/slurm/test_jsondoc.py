"""The JSON documents: Slurm's top keys, and the keys programs read."""

import json

import pytest
import yaml

from sshq.slurm.jsonaccounts import sacct_document
from sshq.slurm.jsondoc import sinfo_document, squeue_document
from sshq.slurm.yamldoc import format_yaml

from .recordings import JOBS, NODES, NOW, RUNNER, load

KEYS = load("documents")


@pytest.mark.parametrize(
    ("document", "rows"), [(squeue_document(JOBS), "jobs"), (sinfo_document(NODES), "nodes"), (sacct_document(JOBS, NOW), "jobs")]
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
    assert sacct_document([], NOW)["meta"]["plugin"]["type"] == "openapi/dbv0.0.38"


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("squeue-json", squeue_document(JOBS)["jobs"]),
        ("sinfo-json", sinfo_document(NODES)["nodes"]),
        ("sacct-json", sacct_document(JOBS, NOW)["jobs"]),
    ],
)
def test_each_item_has_every_key_that_was_recorded(name, items):
    for item in items:
        assert set(KEYS[name]["keys"].split()) - set(item) == set()
        assert set(item) - set(KEYS[name]["keys"].split()) <= {"sshq", "job_resources"}


@pytest.mark.parametrize("value", ["", "yes", "12", "a: b", "#", "line\nline", "\x1b", "ü", "-", "null", "~", "[", "node[1-2]"])
def test_yaml_says_the_same_as_json(value):
    document = {**squeue_document(JOBS), "odd": {value: value, "list": [[], {}, [value, 1, 2.5, None, True]]}}
    text = format_yaml(document)
    assert yaml.safe_load(text) == json.loads(json.dumps(document))
    assert text.startswith("%YAML 1.1\n--- !!map\n!!str meta: !!map\n")


def test_gpus_are_in_the_documents():
    job = {**RUNNER, "gpus": 2, "tres_per_node": "gres:gpu:a100:2"}
    assert squeue_document([job])["jobs"][0]["tres_per_node"] == "gres:gpu:a100:2"
    account = sacct_document([job], NOW)["jobs"][0]
    assert {"type": "gres", "name": "gpu", "id": 1001, "count": 2} in account["tres"]["allocated"]
    node = sinfo_document([{**NODES[2], "gpus": 2, "gpus_alloc": 1}])["nodes"][0]
    assert (node["tres"], node["tres_used"]) == ("cpu=8,mem=4000M,billing=8,gres/gpu=2", "cpu=2,mem=200M,gres/gpu=1")
