#!/bin/sh
# Limits of a job: its time limit where that is changed later, and what the submitter's shell allowed (--propagate).  See runner.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

# call_limit ID SEQ SECONDS|none END: the supervisor looks when it starts and when it is knocked; may be said again at any time.
call_limit() {
    [ $# -eq 4 ] && [ "$4" = "END-$1" ] && is_id "$1" && is_number "$2" || return 0
    [ -e "a/$1.exit" ] || return 0
    printf '1 %s\n' "$3" >|"a/$1.limit" || return 0
    entry "$1"
    if [ "$E_SUP" = 1 ]; then
        kill -s USR2 "$E_BY"
        kill -s CONT "$E_BY"
        knock "$1" limited "1 $3" USR2 </dev/null 8>&- &
    fi
    say "K $1 asked"
} 2>/dev/null

set_limits() { # of the submitter's shell, where he said --propagate
    for LIMIT in $job_limits; do
        VALUE=${LIMIT#*=} LIMIT=${LIMIT%%=*}
        [ "$VALUE" != -1 ] || VALUE=unlimited
        set_limit "$LIMIT" "$VALUE" || complain "Can't propagate RLIMIT_$LIMIT of $VALUE from submit host: Operation not permitted"
    done
}

# shellcheck disable=SC3045 # every shell has these, in units of its own
set_limit() { # NAME BYTES|unlimited
    KIB=$2
    [ "$2" = unlimited ] || KIB=$(($2 / 1024))
    case $1 in
    AS) ulimit -S -v "$KIB" ;;
    CORE) set_blocks -c 'Max core file size' "$2" ;;
    CPU) ulimit -S -t "$2" ;;
    DATA) ulimit -S -d "$KIB" ;;
    FSIZE) set_blocks -f 'Max file size' "$2" ;;
    MEMLOCK) ulimit -S -l "$KIB" ;;
    NOFILE) ulimit -S -n "$2" ;;
    NPROC) ulimit -S -u "$2" || ulimit -S -p "$2" ;; # bash, ksh and zsh have the one, dash the other
    RSS) ulimit -S -m "$KIB" ;;
    STACK) ulimit -S -s "$KIB" ;;
    esac
} 2>/dev/null

# shellcheck disable=SC3045
set_blocks() { # FLAG LINE BYTES|unlimited: a block is 512 bytes to one shell and 1024 to another
    [ "$3" != unlimited ] || { ulimit -S "$1" unlimited && return; }
    for BLOCK in 512 1024; do
        ulimit -S "$1" $(($3 / BLOCK)) || return 1
        while read -r LINE; do
            case $LINE in "$2 "*) LINE=${LINE#"$2"} && break ;; esac
        done </proc/self/limits
        for SOFT in $LINE; do break; done
        [ "$SOFT" != $(($3 / BLOCK * BLOCK)) ] || return 0
    done
    return 1
}
