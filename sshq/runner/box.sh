#!/bin/sh
# Containers of jobs: whoever ends a launch removes its container and proves that it is gone; and what runs containers here.  See
# runner.sh.  The job's own process (sshq/kinds/box.sh) writes `a/ID.box` before it asks an engine for a container named sshq-ID,
# and removes it when the engine has said that there is none any more: as long as that file stands, there may be one.  Engines
# hang, so each question is bounded, and the runner itself asks none.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

BOX_ASK_S=20 # an engine that takes longer has not answered

# box_run WORDS...: asks the engine in BOX_ENGINE; what it answers, and its status, or 124.  With the account's environment and nothing else, as in
# sshq/kinds/box.sh: another storage would know nothing of the container.
box_run() {
    BOX_XDG=/run/user/$(id -u)
    [ -d "$BOX_XDG" ] || BOX_XDG=''
    case $BOX_ENGINE in
    docker) [ -w /var/run/docker.sock ] || [ ! -S "$BOX_XDG/docker.sock" ] || set -- -H "unix://$BOX_XDG/docker.sock" "$@" ;;
    esac
    env -i HOME="$HOME" PATH="$PATH" USER="${USER_HERE:-$USER}" LOGNAME="${USER_HERE:-$USER}" \
        ${BOX_XDG:+XDG_RUNTIME_DIR="$BOX_XDG"} "$BOX_ENGINE" "$@" </dev/null 2>/dev/null 8>&- &
    BOX_PID=$!
    now
    BOX_UNTIL=$((${UPTIME%.*} + BOX_ASK_S))
    while has_memory "$BOX_PID"; do
        nap
        now
        if [ "${UPTIME%.*}" -ge "$BOX_UNTIL" ]; then
            kill -s KILL "$BOX_PID"
            return 124
        fi
    done
    wait "$BOX_PID"
    BOX_STATUS=$?
    if [ "$BOX_STATUS" -gt 128 ]; then # a trap's, perhaps
        wait "$BOX_PID"
        BOX_STATUS=$?
    fi
    return "$BOX_STATUS"
} 2>/dev/null

# box_exists NAME: 0 there may be one, 1 proved: the engine answers, and has none; 2 it does not answer
box_exists() {
    if [ "$BOX_ENGINE" = podman ]; then
        box_run container exists "$1" >/dev/null
        case $? in 0) return 0 ;; 1) return 1 ;; *) return 2 ;; esac
    fi
    # One question: an `inspect` that fails may have met a daemon that was away, and the next one meets it again.
    BOX_FOUND=$(box_run ps -a -q -f "name=^/?$1\$") || return 2
    [ -n "$BOX_FOUND" ]
}

# box_end ID: ends and removes the container of a launch; true if it is proved that there is none.
box_end() {
    [ -e "a/$1.box" ] || return 0
    [ -z "${FORKLESS:-}" ] || return 1
    BOX_KIND='' BOX_VERSION=''
    read -r BOX_VERSION BOX_KIND _ <"a/$1.box"
    BOX_KNOWN=1
    case $BOX_VERSION:$BOX_KIND in
    1:podman | 1:docker) ;;
    *) BOX_KNOWN='' BOX_KIND='podman docker' ;; # damaged by a full disk or a power cut: whichever is here
    esac
    for BOX_ENGINE in $BOX_KIND; do
        if [ -z "$BOX_KNOWN" ] && ! command -v "$BOX_ENGINE" >/dev/null; then continue; fi
        box_remove "sshq-$1" || return 1
    done
    [ -e "a/$1.boxd/oom" ] || rm -rf "a/$1.boxd" # what is said there is still to be read
    rm -f "a/$1.box"
} 2>/dev/null

box_remove() { # NAME
    BOX_TRIES=0
    while [ "$BOX_TRIES" -lt 4 ]; do
        box_exists "$1"
        case $? in 1) return 0 ;; 2) return 1 ;; esac
        BOX_TRIES=$((BOX_TRIES + 1))
        case $BOX_ENGINE in
        podman) box_run rm -f -t 0 -v "$1" || box_run rm -f -v "$1" ;;
        *) box_run rm -f -v "$1" ;;
        esac >/dev/null
    done
    return 1
}

end_box() { # ID: as box_end; one that is not proved gone is named among the survivors
    box_end "$1" || SURVIVORS="$SURVIVORS${SURVIVORS:+,}0:container"
}

# tend_boxes: containers that nobody looks after any more are ended, behind the runner's back: their jobs and supervisors are
# dead, of an earlier boot, or settled and forgotten.
tend_boxes() {
    for OTHER in a/*.box; do
        [ -e "$OTHER" ] || return 0
        LAST=${OTHER#a/}
        LAST=${LAST%.box}
        is_id "$LAST" || continue
        entry "$LAST"
        if [ "$E_SUP$E_ALIVE" = 00 ] || [ -n "$E_BOXED" ]; then
            ensure_spawner && printf 'tend_box %s END-%s\n' "$LAST" "$LAST" >&7
        fi
    done
} 2>/dev/null

tend_box() { # ID END: in the spawner
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    (
        trap : HUP PIPE TERM XFSZ
        box_end "$1"
    ) </dev/null >/dev/null 2>&1 &
    jobs >/dev/null 2>&1
}

end_boxes_of_spool() { # before it is removed; COUNT grows by what is left
    for OTHER in a/*.box; do
        [ -e "$OTHER" ] || return 0
        OTHER=${OTHER#a/}
        box_end "${OTHER%.box}" || COUNT=$((COUNT + 1))
    done
}

# A signal for the script alone: where that is in a container, the job's own process does not pass it on.  There the script is
# the child of pid 1; processes that it left behind are its children as well, but older is none.
signal_batch() { # ID PID SIGNAL
    [ -e "a/$1.box" ] || { kill -s "$3" "$2" && return; }
    find_strays "$1"
    for STRAY in $STRAYS; do
        while read -r KEY NUMBERS; do
            case "$KEY $NUMBERS" in NSpid:*[!0-9]*[!0-9]1) break ;; esac
        done <"/proc/$STRAY/status"
        case "$KEY $NUMBERS" in NSpid:*[!0-9]*[!0-9]1) ;; *) continue ;; esac
        read -r OTHER _ <"/proc/$STRAY/task/$STRAY/children"
        kill -s "$3" "$OTHER"
        return
    done
    return 1
} 2>/dev/null

# find_engines: what this account can run containers with, by a look at what is there: to ask each engine at each connect would be dear.
find_engines() {
    ENGINES=''
    if command -v podman; then # without root it maps ids
        if [ "$UID_HERE" = 0 ] || { command -v newuidmap && grep -q -e "^$USER_HERE:" -e "^$UID_HERE:" /etc/subuid; }; then
            ENGINES="$ENGINES podman"
        fi
    fi
    for OTHER in apptainer singularity; do
        if command -v "$OTHER"; then ENGINES="$ENGINES $OTHER"; fi
    done
    if command -v docker; then
        if [ -S "/run/user/$UID_HERE/docker.sock" ] && [ "$UID_HERE" != 0 ]; then ENGINES="$ENGINES docker-rootless"; fi
        if [ -S /var/run/docker.sock ] && [ -w /var/run/docker.sock ]; then ENGINES="$ENGINES docker"; fi
    fi
} >/dev/null 2>&1
