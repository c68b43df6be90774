"""From variables to hosts and partitions: who takes part, which value wins, and which line said so."""

from pathlib import Path

import pytest

from sshq.core.gpus import GpuLimit
from sshq.errors import InventoryError
from sshq.inventory.keys import KEYS, format_keys
from sshq.inventory.load import embedded_default, find_inventory, load_found, load_inventory, stat_signature
from sshq.inventory.model import Host, Partition

from .files import MemoryFiles, load_text

EXAMPLE = Path(__file__).parent.parent.parent / "inventory.example.yaml"


def host_of(variables: str, **beside: str) -> Host:
    """Load one host with variables in flow style."""
    return load_text(f"all: {{hosts: {{h1: {{sshq_weight: 1, {variables}}}}}}}", **beside).hosts["h1"]


def test_a_host_takes_part_only_if_some_variable_of_ours_applies() -> None:
    inventory = load_text("""
web: {hosts: {w1: , w2: {sshq_slots: 2}}}
db: {hosts: {d1: }, vars: {http_port: 80}}
gpu: {hosts: {d1: , g1: }, vars: {sshq_gpus: 1}}
""")
    assert list(inventory.hosts) == ["w2", "d1", "g1"]
    assert [(out.name, out.reason, out.origin) for out in inventory.excluded] == [
        ("w1", "no sshq_* variable applies to it", "inventory.yaml:2")
    ]


def test_every_group_with_hosts_is_a_partition_and_lab_holds_all() -> None:
    inventory = load_text("""
a: {hosts: {h1: {sshq_slots: 1}, h2: }}
b: {hosts: {h3: {sshq_slots: 1}}, children: {a: }}
c: {hosts: {h2: }}
d: {children: {b: }, vars: {sshq_partition: false}}
""")
    assert {name: p.hosts for name, p in inventory.partitions.items()} == {
        "lab": ("h1", "h3"), "a": ("h1",), "b": ("h1", "h3"),
    }  # fmt: skip
    assert inventory.default_partition == "lab"
    assert inventory.partitions_of("h1") == ("lab", "a", "b")


def test_a_partition_reads_its_groups_own_vars_only() -> None:
    inventory = load_text("""
all:
  vars: {sshq_max_time: 60, sshq_nice: 1}
  children:
    outer:
      vars: {sshq_max_time: 2-0, sshq_default: true, sshq_state: down, sshq_priority_tier: 3}
      children: {inner: {hosts: {h1: }}}
""")
    lab, outer, inner = inventory.partitions.values()
    assert lab == Partition(name="lab", hosts=("h1",), max_time_s=3600)
    assert outer == Partition(
        name="outer", hosts=("h1",), default=True, max_time_s=172800, state="DOWN", priority_tier=3
    )
    assert inner == Partition(name="inner", hosts=("h1",))
    assert outer.origins["max_time_s"] == "inventory.yaml:6"


def test_a_time_is_what_was_written_not_what_yaml_makes_of_it() -> None:
    for text, seconds in (("1:00:00", 3600), ("90", 5400), ("12:30", 780), ("1-0", 86400), ("unlimited", None), ("0", None)):
        inventory = load_text(f"g: {{hosts: {{h: }}, vars: {{sshq_max_time: {text}}}}}")
        assert inventory.partitions["g"].max_time_s == seconds, text


def test_a_group_called_lab_gives_its_settings_but_lab_still_holds_all() -> None:
    inventory = load_text("lab: {hosts: {h1: }, vars: {sshq_max_time: 5}}\nb: {hosts: {h2: {sshq_slots: 1}}}\n")
    assert inventory.partitions["lab"].hosts == ("h1", "h2")
    assert inventory.partitions["lab"].max_time_s == 300
    assert inventory.warnings == ("inventory.yaml:1: the partition lab always holds all hosts: 1 more than this group",)


def test_hosts_in_no_group_are_in_lab_alone() -> None:
    inventory = load_text("all: {hosts: {h1: {sshq_slots: 1}}}")
    assert list(inventory.partitions) == ["lab"]
    asked = load_text("all: {hosts: {h1: {sshq_slots: 1}}}\nungrouped: {vars: {sshq_partition: true}}")
    assert asked.partitions["ungrouped"].hosts == ("h1",)


def test_all_fields_of_a_host() -> None:
    host = host_of(
        "ansible_host: 10.0.0.1, ansible_port: 2222, ansible_user: u, ansible_ssh_private_key_file: /k,"
        " sshq_slots: 2, sshq_cpus: 8, sshq_memory: 2G, sshq_gpus: 'a100:2', sshq_features: [b, 3.10, b], sshq_nice: 0,"
        " sshq_spool: /s//x/, sshq_spool_forced: yes, sshq_shared: /home, sshq_python: /p, sshq_container: Podman,"
        " sshq_environment: {B: 2, A: 010}, sshq_channels_max: 3, sshq_user: batch"
    )
    assert host == Host(
        name="h1", address="10.0.0.1", port=2222, account="batch", identity_files=("/k",), slots=2, cpus=8,
        memory_mib=2048, gpus=GpuLimit(types=(("a100", 2),)), features=("b", "3.10"), weight=1, spool="/s/x", spool_forced=True,
        shared=("/home",), nice=0, python="/p", container="podman", environment=(("A", "010"), ("B", "2")),
        channels_max=3, groups=("ungrouped",),
    )  # fmt: skip
    assert set(host.origins) == {
        "address", "port", "account", "identity_files", "slots", "cpus", "memory_mib", "gpus", "features",
        "weight", "spool", "spool_forced", "shared", "nice", "python", "container", "environment", "channels_max",
    }  # fmt: skip
    assert set(host.origins.values()) == {"inventory.yaml:1"}


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("2", GpuLimit(count=2)), ("0", GpuLimit(count=0)), ("'A100:2'", GpuLimit(types=(("a100", 2),))),
        ("{a100: 2, V100: 1}", GpuLimit(types=(("a100", 2), ("v100", 1)))), ("[0, 2]", GpuLimit(ids=("0", "2"))),
        ("[GPU-8932f937-d72c-4106-c12f-20bd9faed9f6]", GpuLimit(ids=("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",))),
        ("[]", GpuLimit(count=0)),
    ],
)  # fmt: skip
def test_which_gpus(said, limit) -> None:
    assert host_of(f"sshq_gpus: {said}").gpus == limit


@pytest.mark.parametrize("said", ["-1", "two", "{a100: x}", "{3: 1}", "[a b]", "[[1]]", "1.5", "9999"])
def test_what_does_not_say_which_gpus(said) -> None:
    with pytest.raises(InventoryError, match="sshq_gpus"):
        host_of(f"sshq_gpus: {said}")


def test_what_is_not_said_is_left_to_the_machine_and_to_ssh_config() -> None:
    assert host_of("a: 1") == Host(name="h1", address="h1", groups=("ungrouped",))


def test_a_comment_added_above_makes_no_other_host() -> None:
    text = "all: {hosts: {h1: {sshq_slots: 1}}}"
    assert load_text(text).hosts == load_text("# moved\n\n" + text).hosts
    assert hash(load_text(text).hosts["h1"]) == hash(load_text("\n" + text).hosts["h1"])


def test_features_may_be_one_text_with_commas() -> None:
    assert host_of('sshq_features: "a, b,c"').features == ("a", "b", "c")


def test_key_files_have_their_home_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert host_of("ansible_ssh_private_key_file: ~/.ssh/lab").identity_files == ("/home/anna/.ssh/lab",)
    files = MemoryFiles({"/lab/inventory.yaml": "all: {hosts: {h: {sshq_nice: 1, ansible_private_key_file: keys/a}}}"})
    inventory = load_inventory("/lab/inventory.yaml", files=files)
    assert inventory.hosts["h"].identity_files == ("/lab/keys/a",)
    assert "taken relative to the inventory" in inventory.warnings[0]


@pytest.mark.parametrize(
    ("word", "connection"),
    [("ssh", "ssh"), ("smart", "ssh"), ("ansible.builtin.ssh", "ssh"), ("paramiko", "ssh"), ("local", "local"),
     ("ansible.builtin.local", "local"), ("~", "ssh")],
)  # fmt: skip
def test_connections_that_are_understood(word: str, connection: str) -> None:
    assert host_of(f"ansible_connection: {word}").connection == connection


def test_a_local_host_has_no_login() -> None:
    host = host_of("ansible_connection: local, ansible_user: anna, ansible_password: x, ansible_port: 7")
    assert (host.account, host.port, host.connection) == (None, None, "local")


def test_other_connections_are_left_out_with_the_reason() -> None:
    inventory = load_text("all: {vars: {sshq_nice: 1}, hosts: {h1: , box: {ansible_connection: docker}, resting: {sshq_use: no}}}")
    assert {out.name: out.reason for out in inventory.excluded} == {
        "box": "ansible_connection is docker (inventory.yaml:1), not ssh or local",
        "resting": "sshq_use is false (inventory.yaml:1)",
    }


def test_what_a_host_that_takes_no_part_says_is_not_our_business() -> None:
    inventory = load_text("""
all:
  hosts:
    h1: {sshq_slots: 1, other: "{{ jinja }}", more: !vault x}
    "odd name": {ansible_password: x, ansible_host: "{{ ip }}", ansible_port: many}
""")
    assert list(inventory.hosts) == ["h1"] and not inventory.warnings


@pytest.mark.parametrize(
    ("args", "jump", "options"),
    [
        ("-J gate", "gate", {}),
        ("-Ja@gate:22,b", "a@gate:22,b", {}),
        ("-o ProxyJump=gate -J later", "gate", {}),
        ("-oProxyJump=none", "none", {}),
        ('-o ProxyCommand="ssh -W %h:%p -q gate"', "gate", {}),
        ('-o ProxyCommand="ssh -l a -p 22 gate -W [%h]:%p"', "a@gate:22", {}),
        ('-o ProxyCommand="ssh -i key -W %h:%p gate"', None, {"ProxyCommand": "ssh -i key -W %h:%p gate"}),
        ("-o 'ProxyCommand nc %h %p'", None, {"ProxyCommand": "nc %h %p"}),
        ("-o ControlMaster=auto -o ControlPersist=60s -C -o connecttimeout=5", None, {"Compression": "yes", "ConnectTimeout": "5"}),
        ("-4qT -F /etc/lab", None, {"AddressFamily": "inet", "ConfigFile": "/etc/lab"}),
    ],
)
def test_ssh_args_that_are_honoured(args: str, jump: str | None, options: dict[str, str]) -> None:
    quoted = args.replace("'", "''")
    inventory = load_text(f"all: {{hosts: {{h1: {{sshq_nice: 1, ansible_ssh_common_args: '{quoted}'}}}}}}")
    assert inventory.hosts["h1"].proxy_jump == jump
    assert dict(inventory.hosts["h1"].ssh_options) == options
    assert not inventory.warnings


@pytest.mark.parametrize(
    ("args", "warning"),
    [
        ("-o StrictHostKeyChecking=no", "StrictHostKeyChecking=no is never honoured; sshq hosts trust records a key"),
        ("-o stricthostkeychecking=accept-new", "StrictHostKeyChecking=accept-new is never honoured"),
        ("-o UserKnownHostsFile=/dev/null", "UserKnownHostsFile=/dev/null is never honoured: host keys are always checked"),
        ("-L 1:h:2", "-L in ansible_ssh_extra_args has no effect in sshq"),
        ("-X", "-X in ansible_ssh_extra_args has no effect in sshq"),
        ("-o SendEnv=LANG", "the option SendEnv in ansible_ssh_extra_args has no effect in sshq"),
    ],
)
def test_ssh_args_that_are_not_honoured_are_said_once(args: str, warning: str) -> None:
    inventory = load_text(f"all: {{vars: {{sshq_nice: 1, ansible_ssh_extra_args: {args}}}, hosts: {{h1: , h2: }}}}")
    assert len(inventory.warnings) == 1
    assert inventory.warnings[0].startswith("inventory.yaml:1: ") and warning in inventory.warnings[0]
    assert inventory.hosts["h1"].ssh_options == ()


def test_ansibles_own_variables_win_over_ssh_args_and_key_files_add_up() -> None:
    host = host_of("ansible_port: 1, ansible_user: a, ansible_private_key_file: /k1,"
                   " ansible_ssh_common_args: -p 2 -l b -i /k2, ansible_ssh_extra_args: -i /k3 -o HostName=x")  # fmt: skip
    assert (host.port, host.account, host.identity_files, host.address) == (1, "a", ("/k1", "/k2", "/k3"), "x")


def test_two_names_for_one_address_are_warned_of() -> None:
    inventory = load_text("all: {vars: {sshq_nice: 1}, hosts: {a: {ansible_host: X}, b: {ansible_host: x, ansible_port: 22}, c: {ansible_host: x, ansible_port: 2}}}")
    assert inventory.warnings == ("b and a have the same address: one machine under two names?",)


def test_a_misspelt_login_variable_is_warned_of() -> None:
    inventory = load_text("all: {hosts: {a: {sshq_nice: 1, ansible_hosts: x, ansible_become: yes, ansible_python_interpreter: p}}}")
    assert inventory.warnings == ("inventory.yaml:1: `ansible_hosts` means nothing to sshq; did you mean `ansible_host`?",)


def test_a_file_encrypted_as_a_whole_is_skipped_and_said() -> None:
    inventory = load_text("all: {hosts: {a: {sshq_nice: 1}}}", group_vars__all_yaml="$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    assert inventory.warnings == ("group_vars/all.yaml is encrypted as a whole: sshq sees none of its variables",)


def test_faults_beside_the_inventory_name_their_file() -> None:
    with pytest.raises(InventoryError) as caught:
        load_text("all: {hosts: {a: {sshq_nice: 1}}}", host_vars__a_yaml="b: 1\nsshq_slot: 2\n")
    assert caught.value.message == "host_vars/a.yaml:2:1: unknown key `sshq_slot`"
    with pytest.raises(InventoryError, match=r"group_vars/all.yaml:1:1: this file holds variables"):
        load_text("all: {hosts: {a: {sshq_nice: 1}}}", group_vars__all_yaml="- a\n")


def test_the_digest_changes_with_every_file_and_the_watch_covers_them() -> None:
    text = "all: {hosts: {a: {sshq_nice: 1}}}"
    one, two, three = load_text(text), load_text(text, host_vars__a_yaml="x: 1"), load_text(text, host_vars__a_yaml="x: 2")
    assert len({one.digest, two.digest, three.digest}) == 3
    assert two.sources == ("inventory.yaml", "host_vars/a.yaml")
    assert set(two.watched) == {"inventory.yaml", "group_vars", "host_vars", "host_vars/a.yaml"}


def test_a_changed_file_a_new_one_and_a_missing_one_change_the_signature(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text("all: {hosts: {a: {sshq_nice: 1}}}")
    watched = load_inventory(str(path)).watched
    seen = [stat_signature(watched)]
    path.write_text("all: {hosts: {a: {sshq_nice: 12}}}")
    seen.append(stat_signature(watched))
    (tmp_path / "host_vars").mkdir()
    seen.append(stat_signature(watched))
    (tmp_path / "host_vars" / "new").mkdir()
    (tmp_path / "host_vars" / "new" / "vars.yml").write_text("sshq_slot: 4")
    seen.append(stat_signature(watched))
    (tmp_path / "host_vars" / "new" / "vars.yml").write_text("sshq_slots: 4")  # mended in place, read by none yet
    seen.append(stat_signature(watched))
    path.unlink()
    seen.append(stat_signature(watched))
    assert len(set(seen)) == 6 and None in seen[-1]


@pytest.mark.parametrize(
    ("flag", "environ", "there", "found"),
    [
        ("f", {"SSHQ_INVENTORY": "e", "SSHQ_HOME": "/s"}, ["/s/inventory.yaml"], "f"),
        (None, {"SSHQ_INVENTORY": "e", "SSHQ_HOME": "/s"}, ["/s/inventory.yaml"], "e"),
        (None, {"SSHQ_HOME": "/s"}, ["/s/inventory.yaml", "/h/.config/sshq/inventory.yaml"], "/s/inventory.yaml"),
        (None, {"SSHQ_HOME": "/s"}, ["/h/.config/sshq/inventory.yaml", "/etc/sshq/inventory.yaml"], None),
        (None, {}, ["/h/.config/sshq/inventory.yaml", "/etc/sshq/inventory.yaml"], "/h/.config/sshq/inventory.yaml"),
        (None, {}, ["/etc/sshq/inventory.yaml"], "/etc/sshq/inventory.yaml"),
        (None, {}, [], None),
    ],
)
def test_the_inventory_is_found_from_strong_to_weak(flag: str | None, environ: dict[str, str], there: list[str], found: str | None) -> None:
    assert find_inventory(environ, flag, "/h", exists=lambda path: path in there) == found


def test_without_an_inventory_there_is_this_machine() -> None:
    inventory = load_found(None)
    assert inventory == embedded_default()
    assert inventory.hosts == {"localhost": Host(name="localhost", address="localhost", connection="local")}
    assert inventory.partitions == {"lab": Partition(name="lab", hosts=("localhost",), default=True)}


def test_a_missing_file_and_a_directory_without_inventories_say_so(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="no such file"):
        load_inventory(str(tmp_path / "none.yaml"))
    with pytest.raises(InventoryError, match="this directory holds no inventory"):
        load_inventory(str(tmp_path))
    (tmp_path / "old.ini").write_text("[a]\nb\n")
    with pytest.raises(InventoryError, match=r"\.ini is not the name of a YAML inventory"):
        load_inventory(str(tmp_path))


def test_the_example_holds_every_key_and_no_warning() -> None:
    inventory = load_inventory(str(EXAMPLE))
    assert not inventory.warnings
    text = EXAMPLE.read_text()
    assert [name for name in KEYS if f"{name}:" not in text] == []
    assert [name for name in KEYS if f"{name}: {KEYS[name].example}  (" not in format_keys()] == []


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_the_example_of_each_key_is_valid(key) -> None:
    assert load_text(f"g: {{vars: {{{key.name}: {key.example}}}, hosts: {{h1: }}}}\nh: {{hosts: {{h2: {{sshq_nice: 2}}}}}}")


def test_a_thousand_hosts_load_in_a_blink() -> None:
    import time

    text = "all:\n  vars: {sshq_nice: 5}\n  children:\n" + "".join(
        f"    rack{r}:\n      hosts:\n" + "".join(f"        n{r}-{n}: {{ansible_host: 10.0.{r}.{n}, sshq_slots: 4}}\n" for n in range(50))
        for r in range(20)
    )
    start = time.process_time()
    assert len(load_text(text).hosts) == 1000
    assert time.process_time() - start < 10  # about 0.2 s when nothing else runs; it must not be quadratic
