"""sshq stats: how the controller fares, and what it costs its hosts."""

import os
from collections.abc import Mapping, Sequence

import click

from sshq.cli.own import format_duration, own_command, print_json_or, print_table, run_command
from sshq.cli.printing import print_lines
from sshq.wire.client import connect

Figures = Mapping[str, object]


@own_command("stats")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, times in seconds.")
def _command(as_json: bool) -> int:
    """Say how the controller fares: events, commits, scheduling passes, requests, memory, and what each host is asked for."""
    with connect(os.environ) as client:
        stats = client.call("stats")
    print_json_or(as_json, stats, lambda: _print(stats))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq stats`."""
    return run_command(_command, "stats", argv)


def _print(stats: Figures) -> None:
    queue, memory, store = _part(stats, "queue"), _part(stats, "memory"), _part(stats, "store")
    batches, commits, passes = _part(stats, "batches"), _part(stats, "commits"), _part(stats, "passes")
    lines = [
        f"controller  pid {stats.get('pid')}, up {format_duration(_number(stats, 'uptime_s'))}",
        (
            f"events      {_count(stats, 'events')}, {_rate(stats, 'events_a_second')}/s, in the last minute "
            f"{_rate(stats, 'events_a_second_recent')}/s"
        ),
        f"batches     {_count(batches, 'count')}, of {_rate(batches, 'mean')} items on average, most {_count(batches, 'max')}",
        f"commits     {_count(commits, 'count')}, {_times(commits)}",
        f"passes      {_count(passes, 'count')}, {_times(passes)}, {_count(passes, 'starts')} starts",
        (
            f"queue       {_count(queue, 'jobs')} jobs, {_count(queue, 'considered')} to be considered in "
            f"{_count(queue, 'shapes')} shapes, {_count(queue, 'open_launches')} launches open"
        ),
        (
            f"waiting     {_count(queue, 'mailbox')} in the mailbox, {_count(queue, 'clients')} clients connected, "
            f"{_count(queue, 'outputs')} outputs on their way home"
        ),
        f"memory      {_bytes(memory, 'bytes')}, at most {_bytes(memory, 'peak_bytes')}",
        f"store       {_bytes(store, 'database_bytes')}, log {_bytes(store, 'log_bytes')}",
    ]
    print_lines(lines)
    requests = {name: one for name, one in _part(stats, "requests").items() if isinstance(one, dict)}
    if requests:
        print_lines([""])
        figures = ("p50_s", "p99_s", "max_s")
        rows = [(name, _count(one, "count"), *(_ms(one, key) for key in figures)) for name, one in requests.items()]
        print_table(("REQUEST", "COUNT", "P50 MS", "P99 MS", "MAX MS"), rows)
    hosts = {name: one for name, one in _part(stats, "hosts").items() if isinstance(one, dict)}
    if hosts:
        print_lines([""])
        header = ("HOST", "STATE", "TRIP MS", "IN", "OUT", "CHANNELS", "OPENED TODAY", "REFUSED TODAY", "LISTINGS")
        print_table(header, [_describe_host(name, one) for name, one in hosts.items()])


def _describe_host(name: str, one: Figures) -> tuple[str, ...]:
    trips = _part(one, "round_trips")
    channels = f"{_count(one, 'channels_open')} (most {_count(one, 'channels_peak')})"
    return (
        name, str(one.get("state")), _ms(trips, "p50_s"), _bytes(one, "bytes_in"), _bytes(one, "bytes_out"), channels,
        _count(one, "opened_today"), _count(one, "refused_today"), _count(trips, "count"),
    )  # fmt: skip


def _part(figures: Figures, key: str) -> Figures:
    found = figures.get(key)
    return found if isinstance(found, dict) else {}


def _number(figures: Figures, key: str) -> float:
    value = figures.get(key)
    return value if isinstance(value, (int, float)) else 0


def _count(figures: Figures, key: str) -> str:
    return str(int(_number(figures, key)))


def _rate(figures: Figures, key: str) -> str:
    return f"{_number(figures, key):.1f}"


def _times(figures: Figures) -> str:
    return f"p50 {_ms(figures, 'p50_s')} ms, p99 {_ms(figures, 'p99_s')} ms, max {_ms(figures, 'max_s')} ms"


def _ms(figures: Figures, key: str) -> str:
    value = figures.get(key)
    return f"{value * 1000:.2f}" if isinstance(value, (int, float)) else "-"


def _bytes(figures: Figures, key: str) -> str:
    size = _number(figures, key)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
