#!/bin/sh
# srun inside a job, first half: its options and the names of its files.  See srun.sh.
# shellcheck disable=SC2034,SC2154 # variables shared with srun.sh; s_how and the like come from s_row, see commands.py
# shellcheck disable=SC2329 # called from what commands.py writes in front

s_say() { [ -n "$s_quiet" ] || printf 'srun: %s\n' "$*" >&6; } # 6: our standard error, also while 2 is closed to remarks

s_fail() { # LINE...: the first is the error
    printf 'srun: error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '    %s\n' "$@" >&2
    exit 1
}

s_refuse() { s_fail "Unable to create step for job $SLURM_JOB_ID: $1"; }

s_misuse() { # as getopt_long says it
    printf 'srun: %s\nTry "srun --help" for more information\n' "$1" >&2
    exit 1
}

s_is_number() { case $1 in '' | *[!0-9]* | ???????????*) return 1 ;; esac; }

s_look() { # PID: sets s_start s_group; fails for the dead, zombies included
    s_stat=
    { read -r s_stat && case $s_stat in *') '*) ;; *) read -r s_more && s_stat="$s_stat $s_more" ;; esac; } 2>/dev/null <"/proc/$1/stat" || return 1
    # As `look` of runner.sh does it, and why.
    while case $s_stat in *') '*) ;; *) false ;; esac do s_stat=${s_stat#*') '}; done
    # shellcheck disable=SC2086
    set -- $s_stat
    s_group=${3:-} s_start=${20:-}
    case ${1:-Z} in Z | X | x) return 1 ;; esac
}

s_lives() { s_look "$1" && [ "$s_start" = "$2" ]; } # PID START

# ---------------------------------------------------------------- options

s_find_long() { # NAME WORD: by exact name or the only option it begins; sets what s_row sets, and s_name
    s_name=$1
    s_row "$1" && return
    s_found='' s_fields='' s_possible=
    for s_long in $s_longs; do
        case $s_long in "$1"*) ;; *) continue ;; esac
        s_row "$s_long"
        s_possible="$s_possible '$s_long'"
        case " $s_fields " in *" $s_field "*) ;; *) s_fields="$s_fields $s_field" s_found="$s_found $s_long" ;; esac
    done
    case $s_found in
    '') s_misuse "unrecognized option '$2'" ;;
    ' '*' '*) s_misuse "option '$2' is ambiguous; possibilities:$s_possible" ;;
    esac
    s_name=${s_found# }
    s_row "$s_name"
}

s_natural() { # TEXT OPTION
    s_is_number "$1" && [ "$1" -gt 0 ] || s_fail "Invalid numeric value \"$1\" for $2."
}

s_take() { # VALUE GIVEN?: one option, whose row has been found
    case $s_how in
    refused)
        case $1 in none | 0) return ;; esac
        s_fail "$s_name is not supported by sshq in a step, and leaving it out would change $s_why" "$s_name${1:+ $1}"
        ;;
    ignored)
        printf 'srun: warning: %s has no effect here: %s\n' "$s_name" "$s_why" >&2
        return
        ;;
    esac
    case $s_field in
    num_tasks) s_natural "$1" "$s_name" && s_tasks=$1 s_tasks_asked=$s_typed ;;
    cpus_per_task) s_natural "$1" "$s_name" && s_cpus=$1 s_cpus_given=1 ;;
    ntasks_per_node) s_natural "$1" "$s_name" && s_per_node=$1 ;;
    num_nodes)
        s_natural "${1%%-*}" "$s_name"
        [ "${1%%-*}" -le "${SLURM_JOB_NUM_NODES:-1}" ] || s_fail "Only allocated ${SLURM_JOB_NUM_NODES:-1} nodes asked for ${1%%-*}"
        s_nodes=${1%%-*} s_nodes_asked=$s_typed
        ;;
    req_nodes) s_want=$1 ;;
    exc_nodes) s_not=$1 ;;
    distribution) s_distribution=$1 ;;
    unbuffered) s_unbuffered=1 ;;
    multi_prog) s_multi=1 ;;
    cpu_bind) s_bind=$1 ;;
    job_id) [ "$1" = "$SLURM_JOB_ID" ] || s_fail "Unable to confirm allocation for job $1: Invalid job id specified" "a step belongs to the job it is started in, ${SLURM_JOB_ID}" ;;
    std_out) s_out=$1 ;;
    std_err) s_err=$1 ;;
    std_in) s_in=$1 ;;
    open_mode) case $1 in a | append) s_append=1 ;; *) s_append='' ;; esac ;;
    work_dir) s_dir=$1 ;;
    export) s_export=$1 ;;
    label) s_label=1 ;;
    name) s_job_name=$1 ;;
    quiet) s_quiet=1 ;;
    overlap | overcommit) s_share=$s_share$s_field ;;
    exact) s_exact=1 ;;
    gres | gpus | gpus_per_node | gpus_per_task) s_ask_gpus "$1" ;;
    pty) s_pty=1 ;;
    immediate) s_immediate=1 ;;
    kill_on_bad_exit) if [ "${1:-1}" = 0 ]; then s_bad_exit=''; else s_bad_exit=1; fi ;;
    wait) s_is_number "$1" || s_fail "Invalid numeric value \"$1\" for $s_name." && s_wait=$1 ;;
    help | usage)
        printf 'Usage: srun [options] command [arguments]\nInside a job: a step on its node.  Options:\n'
        # shellcheck disable=SC2086
        printf '  %s\n' $s_longs
        exit 0
        ;;
    version) printf '%s\n' "$s_version" && exit 0 ;;
    *) ;; # what the job was given, or has no meaning in it: as Slurm, not a word
    esac
}

s_flag_is_set() { # as sbatch(1) says of a flag's variable
    case $1 in '' | [Yy][Ee][Ss]) return 0 ;; esac
    s_is_number "$1" && [ "$1" -ne 0 ]
}

s_from_variable() { # OPTION VALUE: a variable that is set
    s_row "$1" || return 0
    s_name=$1
    [ "$s_how" = honoured ] || return 0
    if [ "$s_takes" = none ]; then s_flag_is_set "$2" || return 0; fi
    s_take "$2"
}

s_scan() { # WORDS...: sets s_used, how many of them are options
    s_used=0
    while [ $# -gt 0 ]; do
        case $1 in
        --)
            s_used=$((s_used + 1))
            return
            ;;
        --*)
            s_find_long "${1%%=*}" "$1"
            case $s_takes:$1 in
            none:*=*) s_misuse "option '$s_name' doesn't allow an argument" ;;
            *:*=*) s_take "${1#*=}" ;;
            required:*)
                [ $# -ge 2 ] || s_misuse "option '$s_name' requires an argument"
                s_take "$2"
                s_used=$((s_used + 1))
                shift
                ;;
            *) s_take '' ;;
            esac
            ;;
        -?*)
            s_rest=${1#-}
            while [ -n "$s_rest" ]; do
                s_letter=${s_rest%"${s_rest#?}"} s_rest=${s_rest#?} s_name="-$s_letter"
                s_row "$s_name" || s_misuse "invalid option -- '$s_letter'"
                case $s_takes:$s_rest in
                none:*) s_take '' ;;
                optional:* | required:?*)
                    s_take "$s_rest"
                    s_rest=
                    ;;
                *)
                    [ $# -ge 2 ] || s_misuse "option requires an argument -- '$s_letter'"
                    s_take "$2"
                    s_used=$((s_used + 1))
                    shift
                    ;;
                esac
            done
            ;;
        *) return ;;
        esac
        s_used=$((s_used + 1))
        shift
    done
}

# ---------------------------------------------------------------- names of files

s_pad() { # NUMBER: with zeros to s_width
    s_value=$1
    while [ "${#s_value}" -lt "$s_width" ]; do s_value=0$s_value; done
}

s_expand() { # PATTERN RANK: sets s_path
    s_path='' s_left=$1
    case $s_left in
    *\\*) # a backslash turns replacing off, and goes itself
        while :; do
            case $s_left in *\\*) ;; *) s_path=$s_path$s_left && return ;; esac
            s_path=$s_path${s_left%%\\*} s_left=${s_left#*\\}
            s_path=$s_path${s_left%"${s_left#?}"} s_left=${s_left#?}
        done
        ;;
    esac
    while :; do
        case $s_left in *%?*) ;; *) s_path=$s_path$s_left && return ;; esac
        s_path=$s_path${s_left%%\%*} s_left=${s_left#*%} s_width=
        while :; do case $s_left in [0-9]*) s_width=$s_width${s_left%"${s_left#?}"} s_left=${s_left#?} ;; *) break ;; esac done
        s_letter=${s_left%"${s_left#?}"} s_left=${s_left#?} s_digits=$s_width
        s_is_number "${s_width:-0}" && [ "${s_width:-0}" -le 10 ] || s_width=10
        : "${s_width:=0}"
        case $s_letter in
        j) s_pad "$SLURM_JOB_ID" ;;
        J) s_value=$SLURM_JOB_ID.$s_step ;;
        s) s_pad "$s_step" ;;
        t) s_pad "$2" ;;
        n) s_pad "${s_me:-0}" ;;
        A) s_pad "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}" ;;
        a) s_pad "${SLURM_ARRAY_TASK_ID:-4294967294}" ;;
        N) s_value=$SLURMD_NODENAME ;;
        u) s_value=${SLURM_JOB_USER:-} ;;
        x) s_value=${SLURM_JOB_NAME:-} ;;
        %) s_value=% ;;
        *) s_value=%$s_digits$s_letter ;;
        esac
        s_path=$s_path$s_value
    done
}

s_by_task() { # PATTERN: does each task have a file of its own?
    case $1 in *\\*) return 1 ;; *%t* | *%[0-9]t* | *%[0-9][0-9]t*) return 0 ;; esac
    return 1
}

s_by_node() { # PATTERN: does each node?  Another file is the typed srun's, which has the output of all.
    case $1 in *\\*) return 1 ;; *%[nN]* | *%[0-9]n* | *%[0-9][0-9]n*) return 0 ;; esac
    return 1
}

s_open() { # PATTERN RANK STREAM: empties the file unless it is appended to; sets s_path
    s_expand "$1" "$2"
    if { [ -n "$s_append" ] || { [ -e "$s_path" ] && [ ! -f "$s_path" ]; }; } && { true >>"$s_path"; } 2>/dev/null; then return; fi
    if [ -z "$s_append" ] && { true >|"$s_path"; } 2>/dev/null; then return; fi
    if [ -d "$s_path" ]; then
        s_cause='Is a directory'
    elif [ -e "$s_path" ]; then
        s_cause='Permission denied'
    else
        s_cause='No such file or directory'
    fi
    s_fail "Could not open $3 file $s_path: $s_cause"
}
