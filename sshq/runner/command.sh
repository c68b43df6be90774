#!/bin/sh
# sbatch, squeue, scancel, ... inside a job: plain sh, for nodes without sshq and Python.  A runner puts it into SPOOL/bin under
# each of these names, and as `upcall VERB WORDS...`; which job it belongs to, SSHQ_DIR says.
#
# A call is a directory SSHQ_DIR.calls/TOKEN, made exclusively; the bell only says that it is there, and each listing says it
# again, so that nothing is lost while the controller is away:
#   request   one line (version, verb, number of words, umask, pid, start), then /proc/PID/cmdline, the working directory as it
#             was named and as it is, and /proc/PID/environ, each between words that end in NUL: any byte survives
#   ready     pid and start, written last: the request is whole
#   N.out, N.err   the answer, piece by piece
#   state     how many pieces there are, and the exit status, - until it is known
#   seen      how many of them were taken
#   question  something that is asked for: an id and a kind (read, stdin, path, data, nonce); ID.KIND holds what it is about
#   ID.in     what was asked for: a line (ok, or error and why), then the bytes; the same question has the same answer for good
#
# Every variable here begins with u_.  What it leaves behind when it is killed goes with the files of the job.

u_say() { printf '%s: %s\n' "$u_verb" "$*" >&2; }

u_fail() {
    u_say "error: $1"
    shift
    [ $# -eq 0 ] || printf '    %s\n' "$@" >&2
    exit 1
}

u_look() { # PID: sets u_start
    u_stat=
    { read -r u_stat && case $u_stat in *') '*) ;; *) read -r u_more && u_stat="$u_stat $u_more" ;; esac; } 2>/dev/null <"/proc/$1/stat" || return 1
    # As `look` of runner.sh does it, and why.
    while case $u_stat in *') '*) ;; *) false ;; esac do u_stat=${u_stat#*') '}; done
    # shellcheck disable=SC2086
    set -- $u_stat
    u_start=${20:-}
}

u_ring() { # WORD...: in a child, as nobody may be reading
    { [ ! -p "$u_spool/bell" ] || printf 'U %s %s %s\n' "$u_id" "$u_token" "$*" 1<>"$u_spool/bell"; } >/dev/null 2>&1 &
}

u_leave() {
    [ -n "$u_done" ] || u_ring gone
    rm -rf "$u_dir"
}

u_nap() { # ever longer while nothing comes
    u_idle=$((u_idle + 1))
    # Around all of it: of a sleep that a signal for the whole job ended, the shell itself would tell in the job's output.
    {
        if [ "$u_idle" -le 20 ]; then
            sleep 0.05 || sleep 1
        elif [ "$u_idle" -le 40 ]; then
            sleep 0.2 || sleep 1
        else
            sleep 1
        fi
    } 2>/dev/null
    [ -z "$u_taken" ] || return 0
    [ "$u_idle" -ne 40 ] || u_say 'the controller does not answer, waiting for it'
    [ $((u_idle % 20)) -ne 0 ] || u_ring again
}

# ---------------------------------------------------------------- what the head asks for

u_text() { # FILE: sets u_value to all of it, newlines at its end too
    u_value=$(cat "$1" && printf x)
    u_value=${u_value%x}
}

u_refuse() { # CAUSE
    printf 'error %s\n' "$1" >"$u_new"
}

u_cause() { # PATH: sets u_why it cannot be read or written, empty if it can
    if [ -d "$1" ]; then u_why='Is a directory'; elif [ -e "$1" ]; then u_why='Permission denied'; else u_why='No such file or directory'; fi
}

u_give() { # our standard input, in bounds
    if ! (
        ulimit -f 20000
        { printf 'ok\n' && cat; } >"$u_new"
    ) 2>/dev/null; then u_refuse 'File too large'; fi
}

u_read() { # PATH
    if [ -d "$1" ] || [ ! -r "$1" ]; then
        u_cause "$1"
        u_refuse "$u_why"
    else
        u_give <"$1"
    fi
}

u_write() { # PATH: what comes as data goes there
    u_target=$1
    if { true >"$1" && chmod 700 "$1"; } 2>/dev/null; then
        printf 'ok\n' >"$u_new"
    else
        u_cause "$1"
        u_refuse "$u_why"
    fi
}

u_prove() { # NAME AND CONTENT: a file of that name in our directory, which other hosts are asked for; it goes when we go
    case ${1%% *} in .sshq-nonce-*[!a-f0-9]*) u_refuse 'Invalid argument' && return ;; .sshq-nonce-?*) ;; *) u_refuse 'Invalid argument' && return ;; esac
    u_nonce=${1%% *}
    if { printf '%s' "${1#* }" >"$u_real/$u_nonce"; } 2>/dev/null; then
        trap 'rm -f "$u_real/$u_nonce"; u_leave' EXIT
        printf 'ok\n' >"$u_new"
    else
        u_cause "$u_real"
        u_refuse "$u_why"
    fi
}

u_append() { # FILE: to what the last path named
    if { cat "$1" >>"$u_target"; } 2>/dev/null; then printf 'ok\n' >"$u_new"; else u_refuse 'No space left on device'; fi
}

u_answer() { # ID KIND
    u_file=$u_dir/$1 u_new=$u_dir/new
    case $2 in
    stdin) u_give ;;
    read) u_text "$u_file.read" && u_read "$u_value" ;;
    path) u_text "$u_file.path" && u_write "$u_value" ;;
    data) u_append "$u_file.data" ;;
    nonce) u_text "$u_file.nonce" && u_prove "$u_value" ;;
    *) u_refuse 'Invalid argument' ;;
    esac
    mv -f "$u_new" "$u_file.in"
    u_ring news
}

u_take() { # one piece; fails where it is not there yet
    u_file=$u_dir/$u_next
    if [ -e "$u_file.out" ]; then
        cat "$u_file.out" 2>/dev/null || exit 141
        true >"$u_file.out"
    elif [ -e "$u_file.err" ]; then
        cat "$u_file.err" >&2
        true >"$u_file.err"
    else
        return 1
    fi
    u_next=$((u_next + 1)) u_idle=0
}

# ---------------------------------------------------------------- the call

u_request() { # WORDS...: they are in cmdline
    printf '1 %s %s %s %s %s\n' "$u_verb" "$#" "$u_umask" "$$" "$u_start" &&
        cat "/proc/$$/cmdline" &&
        printf 'SSHQ-CWD\000%s\000%s\000SSHQ-ENVIRON\000' "$u_cwd" "$u_real" &&
        cat "/proc/$$/environ" &&
        printf 'SSHQ-END'
}

u_begin() { # WORDS...
    u_umask=$(umask)
    umask 077
    u_cwd=$(pwd -L 2>/dev/null && printf x) u_real=$(pwd -P 2>/dev/null && printf x)
    u_cwd=${u_cwd%?x} u_real=${u_real%?x}
    IFS=- read -r u_1 u_2 u_3 u_4 u_5 </proc/sys/kernel/random/uuid
    u_token=$u_1$u_2$u_3$u_4$u_5 u_dir=$SSHQ_DIR.calls/$u_1$u_2$u_3$u_4$u_5
    [ -e "$SSHQ_DIR.exit" ] || u_fail 'the job of this command is over'
    [ -d "$SSHQ_DIR.calls" ] || mkdir "$SSHQ_DIR.calls" 2>/dev/null || [ -d "$SSHQ_DIR.calls" ] || u_fail "cannot write to $u_spool"
    mkdir "$u_dir" 2>/dev/null || u_fail "cannot write to $u_spool"
    trap u_leave EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    u_look "$$"
    if ! { u_request "$@" >"$u_dir/request" && printf '1 %s %s\n' "$$" "$u_start" >"$u_dir/ready" && [ -s "$u_dir/ready" ]; } 2>/dev/null; then
        u_fail 'No space left on device' "the request could not be written to $u_spool"
    fi
    u_ring new
}

u_main() {
    PATH=${PATH:-/usr/bin}:/usr/local/bin:/usr/bin:/bin # the job may have any; what it has is in /proc
    u_verb=${0##*/} u_done='' u_taken='' u_idle=0 u_next=1 u_target=/dev/null
    if [ "$u_verb" = upcall ]; then
        u_verb=${1:-}
        [ $# -eq 0 ] || shift
    fi
    case $u_verb in '' | *[!a-z_]*) u_verb=upcall && u_fail 'no verb was given' ;; esac
    case ${SSHQ_DIR:-} in */a/*) ;; *) u_fail "this $u_verb belongs to jobs of sshq, and there is none around it" ;; esac
    u_spool=${SSHQ_DIR%/a/*} u_id=${SSHQ_DIR##*/}
    case $u_verb:$#:${1:-}:${2:-} in # needs nobody; what it cannot read is told by the head
    scontrol:[23]:show:hostnames) if u_hostnames "${3-${SLURM_JOB_NODELIST:-}}"; then exit 0; fi ;;
    esac
    u_begin "$@"
    while :; do
        u_pieces='' u_code='' u_dot=''
        read -r u_pieces u_code u_dot 2>/dev/null <"$u_dir/state"
        case $u_dot:$u_pieces in
        .:*[!0-9]* | .:) ;;
        .:*)
            u_taken=1 u_before=$u_next
            while [ "$u_next" -le "$u_pieces" ] && u_take; do :; done
            if [ "$u_next" -gt "$u_pieces" ] && [ "$u_code" != - ]; then
                u_done=1
                exit "$u_code"
            fi
            [ "$u_next" = "$u_before" ] || printf '%s .\n' "$((u_next - 1))" >"$u_dir/seen"
            ;;
        *) [ -d "$u_dir" ] || u_fail 'the files of this job were removed' ;;
        esac
        u_question='' u_kind='' u_dot=''
        read -r u_question u_kind u_dot 2>/dev/null <"$u_dir/question"
        if [ "$u_dot" = . ] && [ ! -e "$u_dir/$u_question.in" ]; then
            u_idle=0
            u_answer "$u_question" "$u_kind"
        fi
        u_nap
    done
}

u_main "$@"
