"""What `sshq inventory` prints, to the column."""

import json

from sshq.inventory.load import embedded_default
from sshq.inventory.report import format_inventory, inventory_json

from .files import load_text

TEXT = """
all:
  vars: {ansible_user: anna, ansible_ssh_common_args: -o StrictHostKeyChecking=no}
  hosts: {fs1: , box: {ansible_connection: docker, sshq_nice: 1}}
  children:
    desks:
      hosts: {"ws[1:2]": {sshq_slots: 2}, ws3: {sshq_slots: 4, ansible_port: 2222, sshq_memory: 60G}}
      vars: {sshq_max_time: 2-0, sshq_default: true}
"""


def test_the_whole_report() -> None:
    assert format_inventory(load_text(TEXT)) == """\
inventory: inventory.yaml

HOST  ADDRESS        ACCOUNT  SLOTS  PARTITIONS
ws1   ws1            anna     2      lab,desks
ws2   ws2            anna     2      lab,desks
ws3   ws3 port 2222  anna     4      lab,desks

PARTITION  HOSTS    TIMELIMIT   STATE
lab        ws[1-3]  infinite    up
desks*     ws[1-3]  2-00:00:00  up

ws1, ws2:
  account  = anna  inventory.yaml:3
  slots    = 2     inventory.yaml:7

ws3:
  port     = 2222  inventory.yaml:7
  account  = anna  inventory.yaml:3
  slots    = 4     inventory.yaml:7
  memory   = 60G   inventory.yaml:7

partition desks:
  default   = true        inventory.yaml:8
  max_time  = 2-00:00:00  inventory.yaml:8

take no part:
  fs1  no sshq_* variable applies to it
  box  ansible_connection is docker (inventory.yaml:4), not ssh or local

warnings:
  inventory.yaml:3: StrictHostKeyChecking=no is never honoured; sshq hosts trust records a key
"""


def test_the_embedded_default_says_that_it_is_one() -> None:
    assert format_inventory(embedded_default()) == """\
inventory: none found: the embedded default, this machine alone

HOST       ADDRESS  ACCOUNT  SLOTS  PARTITIONS
localhost  local    -        CPUs   lab

PARTITION  HOSTS      TIMELIMIT  STATE
lab*       localhost  infinite   up
"""


def test_the_json_form_is_json_and_holds_the_same() -> None:
    report = json.loads(json.dumps(inventory_json(load_text(TEXT))))
    assert [host["name"] for host in report["hosts"]] == ["ws1", "ws2", "ws3"]
    assert report["hosts"][2]["memory_mib"] == 61440 and report["hosts"][2]["partitions"] == ["lab", "desks"]
    assert report["hosts"][2]["origins"]["memory_mib"] == "inventory.yaml:7"
    assert report["partitions"][1]["max_time_s"] == 172800
    assert [out["name"] for out in report["excluded"]] == ["fs1", "box"] and len(report["warnings"]) == 1
    empty = {"path", "digest", "sources", "hosts", "partitions", "excluded", "warnings"}
    assert set(inventory_json(embedded_default())) == empty
