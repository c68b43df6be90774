#!/bin/sh
# Looking at spools without being their runner: for `sshq rebuild` and `sshq hosts remove --purge`.  Sent behind the program of
# runner.sh, whose functions it uses, but nothing is taken over: no bell, no generation, no file is written by a survey.
# Answers are lines "SSHQ-V NONCE word ...", some followed by as many raw bytes as their last word says, and a newline; the
# other side is sshq/runner/survey.py.
# shellcheck disable=SC2034,SC2153,SC2154 # variables and functions shared with the program

tell() { printf 'SSHQ-V %s %s\n' "$NONCE" "$*"; }

put() { # KIND FILE
    [ -f "$2" ] && [ ! -L "$2" ] && [ -r "$2" ] || return 0
    SIZE=$(wc -c <"$2")
    tell "$1" $((SIZE))
    cat "$2"
    printf '\n'
}

# begin_survey NONCE: who and where we are
begin_survey() {
    NONCE=$1
    LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
    export LC_ALL PATH
    unset CDPATH ENV BASH_ENV
    exec 2>/dev/null
    trap '' PIPE
    if [ ! -r /proc/uptime ] || [ ! -r /proc/self/stat ]; then
        tell unusable 'this is not Linux, or /proc is not there'
        exit 0
    fi
    UID_HERE=$(id -u) USER_HERE=$(id -un) GID_HERE=$(id -g) GROUP_HERE=$(id -gn) CLOCK=$(date +%s)
    : "${HOME:=/}" "${USER_HERE:=$UID_HERE}" "${GROUP_HERE:=$GID_HERE}"
    read_boot_tag
    now
    LINGER=0
    [ ! -e "/var/lib/systemd/linger/$USER_HERE" ] || LINGER=1
    tell begin "$UID_HERE" "$GID_HERE" "$UPTIME" "$CLOCK" "$LINGER" "$BOOT" "$USER_HERE" "$GROUP_HERE"
}

# survey NONCE BASE... END-NONCE: every spool of every store below these places, or below the usual ones
survey() {
    for LAST in "$@"; do :; done
    [ $# -ge 2 ] && [ "$LAST" = "END-$1" ] || exit 0
    begin_survey "$1"
    shift
    [ $# -gt 1 ] || set -- "$HOME/.local/state/sshq" "/var/tmp/sshq-$UID_HERE" "$1"
    for BASE in "$@"; do
        [ "$BASE" != "END-$NONCE" ] || continue
        # shellcheck disable=SC2088 # the tilde as the inventory wrote it
        case $BASE in /*) ;; '~/'*) BASE=$HOME/${BASE#??} ;; *) BASE=$HOME/$BASE ;; esac
        for PLACE in "$BASE"/spool/*; do
            case ${PLACE##*/} in doctor-* | *[!A-Za-z0-9._-]*) continue ;; esac
            # shellcheck disable=SC3067
            if [ -d "$PLACE" ] && [ ! -L "$PLACE" ] && [ -O "$PLACE" ] && [ -e "$PLACE/version" ]; then
                (cd -P -- "$PLACE" && survey_spool "${PLACE##*/}")
            fi
        done
    done
    tell over
    exit 0
}

find_runners() { # pids of live runners of this spool in RUNNERS, commas between
    RUNNERS=
    for OTHER in r.*; do
        [ -e "$OTHER" ] || continue
        split_identity "$OTHER"
        is_ours "$O_PID" "$O_START" "$O_BOOT" && RUNNERS="$RUNNERS${RUNNERS:+,}$O_PID"
    done
}

survey_spool() { # STORE_ID, in its directory
    SPOOL_FORMAT='' SPOOL_ID=''
    read -r SPOOL_FORMAT <version
    read -r SPOOL_ID <spool_id
    read_gen
    find_runners
    tell store "$1" "${SPOOL_FORMAT:--}" "${SPOOL_ID:--}" "$GEN" "${RUNNERS:--}" "$(pwd -P)"
    COUNT=0
    # Of another format nothing is known: not even what a launch is.
    if [ "$SPOOL_FORMAT" = "$FORMAT" ]; then
        for OTHER in a/*.exit a/*.go; do
            LAST=${OTHER#a/}
            LAST=${LAST%.*}
            is_id "$LAST" || continue
            case $OTHER in *.go) [ ! -e "a/$LAST.exit" ] || continue ;; esac
            entry "$LAST"
            tell entry "${E_BOOT:--}" "$ENTRY"
            put req "a/$LAST.req"
            put script "a/$LAST.script"
            [ "$E_GO" = "file" ] || put env "a/$LAST.env" # of one that has started it is empty
            COUNT=$((COUNT + 1))
        done
    fi
    tell end "$COUNT"
}

# ---------------------------------------------------------------- removing a spool for good

# find_of_spool: pids of all that belongs to the spool, in FOUND: jobs carry its path in SSHQ_DIR, the spawner and its
# supervisors in SSHQ_SPOOL, and whatever else we started stands in it.
find_of_spool() {
    FOUND=''
    [ -n "${GREP_OK:-}" ] || { if has_grep; then GREP_OK=1; else GREP_OK=0; fi; }
    if [ "$GREP_OK" = 1 ]; then
        # shellcheck disable=SC2013 # words: /proc/PID/environ
        for STRAY in $(grep -l -F -e "SSHQ_DIR=$SPOOL/a/" -e "SSHQ_SPOOL=$SPOOL" /proc/[0-9]*/environ); do
            STRAY=${STRAY#/proc/}
            FOUND="$FOUND ${STRAY%/environ}"
        done
    else
        for STRAY in /proc/[0-9]*; do
            # shellcheck disable=SC3067
            [ -O "$STRAY" ] || continue
            while read -r ENVIRON || [ -n "$ENVIRON" ]; do # `read` drops the NULs
                case $ENVIRON in *"SSHQ_DIR=$SPOOL/a/"* | *"SSHQ_SPOOL=$SPOOL"*) FOUND="$FOUND ${STRAY#/proc/}" && break ;; esac
            done <"$STRAY/environ"
        done
    fi
    # shellcheck disable=SC2012
    STANDING=$(ls -l -d /proc/[0-9]*/cwd | while read -r LINE; do
        case $LINE in
        *" -> $SPOOL" | *" -> $SPOOL/"* | *" -> $SPOOL (deleted)")
            LINE=${LINE%%'/cwd -> '*}
            printf '%s ' "${LINE##*/}"
            ;;
        esac
    done)
    for STRAY in $STANDING; do
        case " $FOUND " in *" $STRAY "*) ;; *) FOUND="$FOUND $STRAY" ;; esac
    done
    LEFT=''
    for STRAY in $FOUND; do
        [ "$STRAY" = "$ME" ] || [ "$STRAY" = "$$" ] || ! look "$STRAY" || LEFT="$LEFT $STRAY"
    done
}

# remove_spool NONCE STORE_ID FORCE BASE... END-NONCE
remove_spool() {
    for LAST in "$@"; do :; done
    [ $# -ge 4 ] && [ "$LAST" = "END-$1" ] || exit 0
    begin_survey "$1"
    STORE=$2 FORCED=$3
    shift 3
    [ $# -gt 1 ] || set -- "$HOME/.local/state/sshq" "/var/tmp/sshq-$UID_HERE" "$1"
    for BASE in "$@"; do
        [ "$BASE" != "END-$NONCE" ] || continue
        # shellcheck disable=SC2088
        case $BASE in /*) ;; '~/'*) BASE=$HOME/${BASE#??} ;; *) BASE=$HOME/$BASE ;; esac
        for PLACE in "$BASE"/spool/*; do
            if [ ! -d "$PLACE" ] || [ -L "$PLACE" ]; then continue; fi
            case ${PLACE##*/} in
            "$STORE") (cd -P -- "$PLACE" && remove_one) ;;
            doctor-*) ;;
            *) tell other "$PLACE" ;;
            esac
        done
        [ ! -d "$BASE/spool" ] || ! rmdir "$BASE/spool" || rmdir "$BASE"
    done
    tell over
    exit 0
}

remove_one() { # in the spool
    SPOOL=$(pwd -P)
    look self # a subshell: $$ is not its number
    ME=$PID
    # shellcheck disable=SC3067
    [ -O . ] || { tell kept owner "$SPOOL" && return; }
    # The controller has just let go of its runner: it ends by itself.
    TRIES=0
    while find_runners && [ -n "$RUNNERS" ] && [ "$TRIES" -lt 50 ]; do
        TRIES=$((TRIES + 1))
        nap
    done
    [ -z "$RUNNERS" ] || { tell kept runner "$RUNNERS" "$SPOOL" && return; }
    ALIVE=0 KEPT=0
    for OTHER in a/*.exit; do
        LAST=${OTHER#a/}
        LAST=${LAST%.exit}
        is_id "$LAST" || continue
        entry "$LAST"
        if [ "$E_SUP$E_ALIVE" != 00 ]; then ALIVE=$((ALIVE + 1)); else KEPT=$((KEPT + 1)); fi
    done
    if [ "$FORCED" != 1 ]; then
        [ "$ALIVE" = 0 ] || { tell kept alive "$ALIVE" "$SPOOL" && return; }
        [ "$KEPT" = 0 ] || { tell kept records "$KEPT" "$SPOOL" && return; }
    fi
    end_of_spool
    [ -z "$LEFT" ] || { name_survivors && tell kept survivors "${SURVIVORS:--}" "$SPOOL" && return; }
    COUNT=0
    end_boxes_of_spool
    [ "$COUNT" = 0 ] || { tell kept survivors 0:container "$SPOOL" && return; }
    cd /
    case $SPOOL_ID in '' | *[!0-9a-f]*) ;; *) rm -rf "/tmp/sshq-$SPOOL_ID" ;; esac
    if rm -rf "$SPOOL" && [ ! -e "$SPOOL" ]; then tell removed "$TOTAL" "$KEPT" "$SPOOL"; else tell kept space - "$SPOOL"; fi
}

end_of_spool() { # what ended jobs left behind, the spawner, supervisors: KILL until nobody is left
    ROUNDS=0 KILLED=' ' TOTAL=0
    while [ "$ROUNDS" -lt 30 ]; do
        find_of_spool
        [ -n "$LEFT" ] || break
        for PROCESS in $LEFT; do
            # A spawner whose runner has gone ends by itself, and needs no word about it.
            [ "$ROUNDS" -lt 3 ] || kill -s KILL "$PROCESS"
            case $KILLED in *" $PROCESS "*) ;; *) [ "$ROUNDS" -lt 3 ] || { KILLED="$KILLED$PROCESS " TOTAL=$((TOTAL + 1)); } ;; esac
        done
        ROUNDS=$((ROUNDS + 1))
        nap
    done
}
