"""Completion for bash, zsh and fish, made from the option tables: what a command takes is written down once.

Refused options are left out; what is offered works.  Names of jobs, partitions and nodes are asked of the queue when
somebody presses Tab, and only then.
"""

from collections.abc import Mapping, Sequence

from sshq.slurm.options import NO_VALUE, OPTIONAL, REFUSED, Option

SHELLS = ("bash", "zsh", "fish")
Row = tuple[str, str, bool, str]  # short name or "", long name or "", whether a value follows, help
Tables = Mapping[str, Sequence[Row]]

# What follows an option, by what it sets, and what a command's own words are.
_KINDS = {
    "partition": "partitions", "partitions": "partitions", "req_nodes": "nodes", "exc_nodes": "nodes", "nodes": "nodes",
    "jobs": "jobs", "states": "states", "state": "states", "users": "users",
}  # fmt: skip
_ARGUMENTS = {
    "scancel": "jobs", "logs": "jobs", "wait": "jobs", "fetch": "jobs", "why": "jobs", "show": "jobs",
    "reproduce": "jobs", "doctor": "nodes", "scontrol": "words",
}  # fmt: skip
_ASK = {
    "jobs": "squeue -h -r -o %i",
    "partitions": "sinfo -h -o %R",
    "nodes": "sinfo -h -N -o %N",
}
STATES = "PENDING RUNNING SUSPENDED COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL OUT_OF_MEMORY COMPLETING all"


def rows_of(options: Sequence[Option]) -> list[Row]:
    """Return the rows of a command's table that are worth offering."""
    kept = [option for option in options if option.handling != REFUSED]
    return [
        (option.short.removeprefix("-"), long.removeprefix("--"), option.takes not in (NO_VALUE, OPTIONAL), option.help)
        for option in kept
        for long in (option.longs or ("",))[:1]
    ]


def kinds_of(options: Sequence[Option]) -> dict[str, str]:
    """Return, for each spelling of an option, what its value is a name of."""
    return {
        name: _KINDS[option.field]
        for option in options
        if option.field in _KINDS and option.handling != REFUSED
        for name in (option.short, *option.longs)
        if name
    }


def format_completion(
    shell: str, tables: Tables, slurm: Sequence[str], kinds: Mapping[str, Mapping[str, str]], words: str
) -> str:
    """Return the script for a shell.

    Args:
        shell: one of SHELLS.
        tables: the rows of every command, ours and Slurm's.
        slurm: the commands that also stand alone, by the shims.
        kinds: for each command, what the value of an option is a name of.
        words: the verbs of scontrol.
    """
    if shell == "fish":
        return _format_fish(tables, slurm, kinds, words)
    return (_format_bash if shell == "bash" else _format_zsh)(tables, slurm, kinds, words)


def _names(rows: Sequence[Row]) -> str:
    return " ".join(f"--{long}" for _, long, _, _ in rows if long)


def _ask_lines(indent: str) -> list[str]:
    lines = [f"{indent}{kind}) SSHQ_BATCH=1 sshq {command} 2>/dev/null ;;" for kind, command in _ASK.items()]
    return [*lines, f"{indent}states) echo {STATES} ;;", f"{indent}users) id -un ;;"]


def _kind_lines(kinds: Mapping[str, Mapping[str, str]], indent: str) -> list[str]:
    return [f"{indent}'{command} {name}') echo {kind} ;;" for command, names in kinds.items() for name, kind in names.items()]


def _format_bash(tables: Tables, slurm: Sequence[str], kinds: Mapping[str, Mapping[str, str]], words: str) -> str:
    lines = [
        "# Completion of sshq's commands for bash:  source <(sshq completion bash)",
        "_sshq_ask() {", '    case "$1" in', *_ask_lines("    "), f"    words) echo {words} ;;", "    esac", "}",
        "_sshq_kind() {", '    case "$1 $2" in', *_kind_lines(kinds, "    "), "    esac", "}",
        "_sshq_options() {", '    case "$1" in',
        *(f"    {command}) echo {_names(rows)} ;;" for command, rows in tables.items()), "    esac", "}",
        "_sshq_arguments() {", '    case "$1" in',
        *(f"    {command}) echo {kind} ;;" for command, kind in _ARGUMENTS.items()), "    esac", "}",
        "_sshq() {",
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[0]##*/} first=1 kind",
        '    [ "$cur" != = ] || cur=',
        '    [ "$prev" != = ] || prev=${COMP_WORDS[COMP_CWORD-2]}',
        '    if [ "$cmd" = sshq ]; then',
        f"        [ \"$COMP_CWORD\" -gt 1 ] || {{ COMPREPLY=($(compgen -W '{' '.join(tables)}' -- \"$cur\")); return; }}",
        "        cmd=${COMP_WORDS[1]} first=2",
        "    fi",
        '    kind=$(_sshq_kind "$cmd" "$prev")',
        '    if [ -z "$kind" ] && [ "${cur#-}" = "$cur" ]; then',
        '        kind=$(_sshq_arguments "$cmd")',
        '        [ "$kind" != words ] || [ "$COMP_CWORD" -eq "$first" ] || kind=jobs',
        "    fi",
        '    if [ -n "$kind" ]; then',
        '        COMPREPLY=($(compgen -W "$(_sshq_ask "$kind")" -- "$cur"))',
        '    elif [ "${cur#-}" != "$cur" ]; then',
        '        COMPREPLY=($(compgen -W "$(_sshq_options "$cmd")" -- "$cur"))',
        "    fi",
        "}",
        f"complete -o default -F _sshq sshq {' '.join(slurm)}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _zsh_item(row: Row) -> str:
    text = f"--{row[1]}:{row[3]}".replace("'", "'\\''")
    return f"'{text}'"


def _format_zsh(tables: Tables, slurm: Sequence[str], kinds: Mapping[str, Mapping[str, str]], words: str) -> str:
    options = [
        f"    {command}) found=({' '.join(_zsh_item(row) for row in rows if row[1])}) ;;" for command, rows in tables.items()
    ]
    lines = [
        f"#compdef sshq {' '.join(slurm)}",
        "# Completion of sshq's commands for zsh:  sshq completion zsh >~/.zfunc/_sshq, with ~/.zfunc on fpath before compinit",
        "_sshq_ask() {", '    case "$1" in', *_ask_lines("    "), f"    words) echo {words} ;;", "    esac", "}",
        "_sshq_kind() {", '    case "$1 $2" in', *_kind_lines(kinds, "    "), "    esac", "}",
        "_sshq() {",
        "    local cmd=${words[1]:t} kind first=2; local -a found",
        "    if [[ $cmd == sshq ]]; then",
        f"        if (( CURRENT == 2 )); then compadd -- {' '.join(tables)}; return; fi",
        "        cmd=$words[2] first=3",
        "    fi",
        "    kind=$(_sshq_kind $cmd $words[CURRENT-1])",
        "    if [[ -z $kind && $words[CURRENT] != -* ]]; then",
        '        case "$cmd" in',
        *(f"        {command}) kind={kind} ;;" for command, kind in _ARGUMENTS.items()),
        "        esac",
        "        [[ $kind != words || $CURRENT -eq $first ]] || kind=jobs",
        "    fi",
        "    if [[ -n $kind ]]; then compadd -- $(_sshq_ask $kind); return; fi",
        "    if [[ $words[CURRENT] != -* ]]; then _files; return; fi",
        '    case "$cmd" in', *options, "    esac",
        "    _describe -o option found",
        "}",
        'if [ "$funcstack[1]" = _sshq ]; then _sshq "$@"; else compdef _sshq sshq ' + " ".join(slurm) + "; fi",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _format_fish(tables: Tables, slurm: Sequence[str], kinds: Mapping[str, Mapping[str, str]], words: str) -> str:
    lines = ["# Completion of sshq's commands for fish:  sshq completion fish >~/.config/fish/completions/sshq.fish"]
    lines.append(f"complete -c sshq -f -n __fish_use_subcommand -a '{' '.join(tables)}'")
    for command, rows in tables.items():
        heads = [f"complete -c sshq -n '__fish_seen_subcommand_from {command}'"]
        heads += [f"complete -c {command}"] if command in slurm else []
        argument = _ARGUMENTS.get(command)
        for head in heads:
            if argument:
                asked = words if argument == "words" else f"({'SSHQ_BATCH=1 sshq ' + _ASK[argument]} 2>/dev/null)"
                lines.append(f"{head} -f -a '{asked}'")
            lines += [head + _fish_option(row, kinds.get(command, {})) for row in rows]
    return "\n".join(lines) + "\n"


def _fish_option(row: Row, kinds: Mapping[str, str]) -> str:
    short, long, follows, text = row
    kind = kinds.get(f"--{long}")
    parts = [f" -s {short}" if short else "", f" -l {long}" if long else "", " -r" if follows else ""]
    if kind in _ASK:
        parts.append(f" -f -a '(SSHQ_BATCH=1 sshq {_ASK[kind]} 2>/dev/null)'")
    elif kind == "states":
        parts.append(f" -f -a '{STATES}'")
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return "".join(parts) + f" -d '{quoted}'"
