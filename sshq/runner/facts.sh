#!/bin/sh
# What a node is: one line a fact, asked at each connect.  See runner.sh; read in sshq/inventory/facts.py.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

fact() { # KEY VALUE
    [ -n "$2" ] || return 0
    case $2 in *[$TAB_NEWLINE]*) return 0 ;; esac
    FACTS=$((FACTS + 1))
    say "F $TAG $1 $2"
}

probe() {
    TAG=$1 FACTS=0
    # shellcheck disable=SC2046
    set -- $(uname -nrm) # in this order, whatever was asked
    fact kernel "${2:-}"
    fact arch "${3:-}"
    fact hostname "${1:-}"
    fact cpus "$(nproc || getconf _NPROCESSORS_ONLN || grep -c '^processor' /proc/cpuinfo)"
    NEWLINE=${TAB_NEWLINE#?}
    CPUINFO=$(awk -F ': *' '
        $1 ~ /^physical id/ { s = $2 } $1 ~ /^core id/ { core[s "," $2] = 1; socket[s] = 1 } $1 ~ /^processor/ { n++ }
        m == "" && $1 ~ /^(model name|cpu model|cpu|Model|Hardware)[ \t]*$/ { m = $2 }
        END { for (i in core) c++; for (i in socket) k++; if (k && c && n) print k, int(c / k), int(n / c); else print ""; print m }' /proc/cpuinfo)
    fact topology "${CPUINFO%%"$NEWLINE"*}"
    while read -r KEY VALUE _; do
        case $KEY in MemTotal:) fact memory_kib "$VALUE" ;; MemAvailable:) fact memory_free_kib "$VALUE" ;; esac
    done </proc/meminfo
    # shellcheck disable=SC1091
    OS=$( (. /etc/os-release && printf '%s' "$PRETTY_NAME") || uname -s)
    fact os "$OS"
    read -r LOAD1 _ </proc/loadavg && fact load1 "$LOAD1"
    now
    fact uptime "$UPTIME"
    fact clock "$(date +%s)"
    fact login_shell "$LOGIN_SHELL"
    fact sh "$SH_HERE"
    fact setsid "$SETSID"
    fact signals "$SIGNALS"
    fact spool_fs "$FS"
    check_room
    fact room "$ROOM"
    IFS=${TAB_NEWLINE#?}
    # shellcheck disable=SC2046
    set -- $(df -Pk /tmp .) # its first line is a heading
    IFS=" $TAB_NEWLINE"
    # shellcheck disable=SC2086
    if [ $# -eq 3 ]; then fact_mib tmp_mib 2 $2 && fact_mib spool_free_mib 4 $3; fi
    MACHINE=$(sha256sum </etc/machine-id)
    fact machine "${MACHINE%????????????????????????????????  -}"
    TOOLS=''
    for TOOL in awk cat chmod cut date df env getconf grep id ln loginctl ls mkdir mkfifo mv nice nproc perl python3 rm rmdir \
        setsid sha256sum sleep systemd-run tail timeout tr uname wc; do
        command -v "$TOOL" >/dev/null && TOOLS="$TOOLS${TOOLS:+ }$TOOL"
    done
    fact tools "$TOOLS"
    find_engines && fact engines "${ENGINES# }"
    probe_make
    probe_login
    say "F $TAG . $FACTS"
} 2>/dev/null

fact_mib() { # KEY COLUMN COLUMNS...
    KEY=$1
    shift "$2"
    is_number "${2:-}" && fact "$KEY" $(($2 / 1024))
    return 0
}

probe_login() { # would jobs outlive the login?  may they have a scope of their own?
    if [ -e "/var/lib/systemd/linger/$USER_HERE" ]; then fact linger 1; else fact linger 0; fi
    WILL='' # neither has a word to say where systemd does not run
    [ ! -d /run/systemd/system ] || WILL=$(timeout 3 busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
        org.freedesktop.login1.Manager KillUserProcesses) || WILL=''
    [ -n "$WILL" ] || WILL=$(grep -h '^ *KillUserProcesses *=' /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf)
    case $WILL in *true | *yes | *on | *1) fact kill_user_processes 1 ;; *) fact kill_user_processes 0 ;; esac
    if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null && command -v timeout >/dev/null &&
        XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$UID_HERE} timeout 5 systemd-run --user --scope --quiet --collect true; then
        fact user_scope 1
    else
        fact user_scope 0
    fi
}

probe_make() { # what makes a result differ from one host to the next, besides what scheduling needs
    case $CPUINFO in *"$NEWLINE"*) fact cpu_model "${CPUINFO#*"$NEWLINE"}" ;; esac
    for DRIVER in nvidia amdgpu; do
        if read -r VALUE <"/sys/module/$DRIVER/version"; then fact gpu_driver "$DRIVER $VALUE"; fi
    done
    # Of a wrapper that hangs nobody waits for the answer; without `timeout` it is not asked.
    if command -v python3 >/dev/null && command -v timeout >/dev/null; then
        VALUE=$(timeout 5 python3 -V 2>&1)
        fact python "$(command -v python3) ${VALUE##*"$NEWLINE"}"
    fi
}
