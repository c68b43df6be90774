#!/bin/sh
# How the job's process of a container job asks its engine, waits for the end of the container, and ends itself as the script did.
# Sent behind box.sh, which see.
# shellcheck disable=SC2034,SC2154 # shared with the other parts

BOX_ASK_S=20  # an engine that takes longer for a question does not answer
BOX_LATE_S=5  # nor one that takes longer to tell that a container has ended
BOX_MAKE_S=900 # to make a container some copy the whole image

box_leave() { # STATUS
    [ -n "$box_deaf" ] || [ ! -e "$SSHQ_DIR.box" ] || box_remove # else: the supervisor's business
    rm -rf "$SSHQ_DIR.boxd"
    exit "$1"
}

box_die() { # SIGNAL oom|'': as the script did, so that whoever waits for us sees what it would have seen of that
    [ -n "$box_deaf" ] || [ ! -e "$SSHQ_DIR.box" ] || box_remove
    rm -rf "$SSHQ_DIR.boxd"
    if [ -n "$2" ]; then mkdir -m 700 "$SSHQ_DIR.boxd" && true >"$SSHQ_DIR.boxd/oom"; fi
    # shellcheck disable=SC3045 # where there is none, a core of this shell may be left
    ulimit -c 0 2>/dev/null
    trap - "$1"
    kill "-$1" "$$"
    exit $((128 + $1))
}

# box_run WORDS...: the engine, with an environment of the account's and nothing of the job's, which could lead it to another
# storage, where the supervisor would not find the container.  As in sshq/runner/box.sh.  It takes the place of a child of ours, as
# a signal to that must reach the engine.
box_run() {
    if box_is_rootless; then set -- -H "unix://$box_xdg/docker.sock" "$@"; fi
    exec env -i HOME="$HOME" PATH="$PATH" USER="$USER" LOGNAME="$LOGNAME" ${box_xdg:+XDG_RUNTIME_DIR="$box_xdg"} "$box_engine" "$@"
}

box_is_rootless() { # a docker whose daemon is the account's
    [ "$box_engine" = docker ] && [ ! -w /var/run/docker.sock ] && [ -S "$box_xdg/docker.sock" ]
}

# box_ask SECONDS WORDS...: the same, for so long at most; 124 if there is no answer.
box_ask() {
    box_limit=$1
    shift
    box_run "$@" &
    box_client=$!
    box_guard "$box_client" "$box_limit" >/dev/null 2>&1 &
    box_dog=$!
    box_settle
    kill -s TERM "$box_dog" 2>/dev/null
    [ "$box_status" -ne 137 ] || box_status=124
    return "$box_status"
}

box_settle() { # waits for box_client: sets box_status.  A trap that runs ends a `wait`
    while :; do
        wait "$box_client"
        box_status=$?
        [ "$box_status" -gt 128 ] && kill -s 0 "$box_client" || return 0
    done
} 2>/dev/null

box_guard() { # PID SECONDS
    box_sleep=''
    trap '[ -z "$box_sleep" ] || kill -s KILL "$box_sleep"; exit 0' TERM
    sleep "$2" &
    box_sleep=$!
    wait "$box_sleep"
    kill -s KILL "$1"
}

box_remove() { # the supervisor does it again, and asks, if this does not succeed
    case $box_engine in
    podman) box_ask "$BOX_ASK_S" rm -f -t 0 -v "$box_name" || box_ask "$BOX_ASK_S" rm -f -v "$box_name" ;;
    *) box_ask "$BOX_ASK_S" rm -f -v "$box_name" ;;
    esac
    if box_is_absent; then rm -f "$SSHQ_DIR.box"; fi
} </dev/null >/dev/null 2>&1

box_is_absent() { # proved: the engine answers, and has none of that name
    case $box_engine in
    podman)
        box_ask "$BOX_ASK_S" container exists "$box_name"
        [ $? -eq 1 ]
        ;;
    *) # one question: an `inspect` that fails may have met a daemon that was away, and the next one meets it again
        box_found=$(box_ask "$BOX_ASK_S" ps -a -q -f "name=^/?$box_name\$") && [ -z "$box_found" ]
        ;;
    esac
} </dev/null >/dev/null 2>&1

box_wait() { # a client that waits may be killed by the job's signals, or its engine be restarted: then the next one waits
    box_tries=0 box_oom=''
    while :; do
        case $box_engine in
        podman) box_run wait -i 100ms "$box_name" ;;
        *) box_run wait "$box_name" ;;
        esac </dev/null >/dev/null 2>&1 &
        box_client=$!
        box_watch "$box_client" >/dev/null 2>&1 &
        box_dog=$!
        box_settle
        kill -s TERM "$box_dog" 2>/dev/null
        if box_read_how; then box_limit=$BOX_LATE_S; else box_limit=$BOX_ASK_S; fi
        box_said=$(box_ask "$box_limit" container inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' "$box_name" 2>/dev/null)
        box_status=$?
        case $box_said in
        exited\ [0-9]* | stopped\ [0-9]* | dead\ [0-9]*)
            box_oom=${box_said##* } box_said=${box_said#* }
            box_end_as "${box_said% *}"
            ;;
        '')
            if [ "$box_status" -ne 124 ] && box_is_absent; then
                if box_read_how; then box_end_as 0; fi
                printf 'sshq: error: %s: somebody removed the container %s\n' "$box_node" "$box_name" >&2
                box_leave 137
            fi
            ;;
        esac
        box_tries=$((box_tries + 1))
        # The script may have ended all the same.
        if { [ "$box_status" -eq 124 ] || [ "$box_tries" -ge 30 ]; } && box_read_how; then
            box_deaf=1
            box_end_as 0
        fi
        if [ "$box_tries" -lt 5 ]; then sleep 0.1 2>/dev/null || sleep 1; else sleep 1; fi
    done
}

box_watch() { # PID: of a client that waits, which an engine that hangs does not tell that the script has ended
    box_sleep=''
    trap '[ -z "$box_sleep" ] || kill -s KILL "$box_sleep"; exit 0' TERM
    while ! box_read_how; do
        sleep 5 &
        box_sleep=$!
        wait "$box_sleep"
    done
    box_guard "$1" "$BOX_LATE_S"
}

box_read_how() { # sets box_how, the status of the script, and box_by, what else is known of it; false if that is not known
    box_how='' box_by=''
    while read -r box_word box_number box_shell; do
        case $box_word in
        end)
            case $box_shell in *oom*) box_oom=true ;; esac
            case $box_shell in *bash*) box_by=${box_by}bash ;; esac
            box_how=$box_number
            ;;
        ?*) box_by=said ;;
        esac
    done <"$SSHQ_DIR.boxd/how"
    case $box_how in '' | *[!0-9]*) return 1 ;; esac
} 2>/dev/null

box_end_as() { # CODE of the engine: the end of the job, as the container's first process told it
    if box_read_how; then
        # Of INT and PIPE no sh says a word, of TERM not bash.
        case $box_by:$box_how in
        said*:129 | said*:1[3-8][0-9] | said*:19[0-2] | :130 | bash:130 | :141 | bash:141 | bash:143) box_signal=$((box_how - 128)) ;;
        *) box_leave "$box_how" ;;
        esac
    elif [ "$1" -gt 128 ] && [ "$1" -le 192 ]; then
        box_signal=$(($1 - 128)) # what ended the container's first process, and all with it
    else
        printf 'sshq: error: %s: the container was ended from outside, and not by its script (%s says %s)\n' "$box_node" "$box_engine" "$1" >&2
        box_signal=9
    fi
    [ "$box_signal$box_oom" = 9true ] || box_oom=''
    box_die "$box_signal" "$box_oom"
}
