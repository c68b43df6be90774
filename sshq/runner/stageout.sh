#!/bin/sh
# What is read of a job's directory: a list of what patterns match, sizes, checksums, bytes.  Fed to `exec /bin/sh` on a channel
# of its own, beside the runner; the functions first, then calls, each of which does nothing without its last word.
# Nothing is written on the node.  Names are what a job made up: they are quoted, told with their length, and never evaluated;
# the one expansion without quotes is that of a pattern, with an empty IFS.
#
# An answer begins with `SSHQ-OUT NONCE` and ends with `end NONCE COUNT`; one that does not is not used.
# shellcheck disable=SC2086

LC_ALL=C
export LC_ALL
IFS=''
set -f
ENTRIES_MAX=200000

begin_stage() { # NONCE KIND ROOT: enters the directory; a private one is a directory of ours and no link
    printf '\nSSHQ-OUT %s\n' "$1"
    if { [ "$2" = private ] && [ -L "$3" ]; } || ! cd "$3"; then
        printf 'end %s gone\n' "$1"
        return 1
    fi
}

# stage_list NONCE KIND ROOT PATTERN... END
stage_list() {
    for LAST in "$@"; do :; done
    [ $# -ge 4 ] && [ "$LAST" = "END-$1" ] || return 0
    begin_stage "$1" "$2" "$3" || return 0
    NONCE=$1 COUNT=0 NUMBER=0
    shift 3
    while [ $# -gt 1 ]; do
        match_pattern "$1"
        NUMBER=$((NUMBER + 1))
        shift
    done
    [ "$COUNT" -lt "$ENTRIES_MAX" ] || COUNT=many
    printf 'end %s %s\n' "$NONCE" "$COUNT"
}

tell() { # KIND PATH; KIND is f, d, l (a link), o (something else), u (unreadable)
    COUNT=$((COUNT + 1))
    printf '%s %s %s %s\n' "$1" "$NUMBER" "${#2}" "$2"
}

match_pattern() { # PATTERN; with a slash at its end it is for directories alone
    ONLY=''
    case $1 in */) ONLY=d && set -- "${1%/}" ;; esac
    set +f
    set -- $1
    set -f
    for FOUND in "$@"; do match_one "$FOUND"; done
}

match_one() { # PATH: no link on the way to it, and none at its end, is followed
    REST=$1 AT=''
    while case $REST in */*) : ;; *) false ;; esac do
        AT=$AT${REST%%/*} REST=${REST#*/}
        if [ -L "$AT" ]; then
            tell l "$AT"
            return
        fi
        AT=$AT/
    done
    if [ -L "$1" ]; then
        tell l "$1"
    elif [ -d "$1" ]; then
        walk "$1"
    elif [ -n "$ONLY" ]; then
        :
    elif [ -f "$1" ]; then
        if [ -r "$1" ]; then tell f "$1"; else tell u "$1"; fi
    elif [ -e "$1" ]; then
        tell o "$1"
    fi
}

walk() { # DIRECTORY, and all below it; what is yet to be entered are the positional parameters
    while [ $# -gt 0 ] && [ "$COUNT" -lt "$ENTRIES_MAX" ]; do
        AT=$1
        shift
        if [ ! -r "$AT" ] || [ ! -x "$AT" ]; then
            tell u "$AT"
            continue
        fi
        [ "$AT" = . ] || tell d "$AT"
        set +f
        for FOUND in "$AT"/* "$AT"/.[!.]* "$AT"/..?*; do
            FOUND=${FOUND#./}
            if [ -L "$FOUND" ]; then
                tell l "$FOUND"
            elif [ -d "$FOUND" ]; then
                set -- "$FOUND" "$@"
            elif [ -f "$FOUND" ]; then
                if [ -r "$FOUND" ]; then tell f "$FOUND"; else tell u "$FOUND"; fi
            elif [ -e "$FOUND" ]; then
                tell o "$FOUND"
            fi
        done
        set -f
    done
}

# stage_sizes NONCE KIND ROOT NAME... END: for each a line `SIZE MODE`.  Names begin with `./`.
stage_sizes() {
    for LAST in "$@"; do :; done
    [ $# -ge 5 ] && [ "$LAST" = "END-$1" ] || return 0
    begin_stage "$1" "$2" "$3" || return 0
    NONCE=$1 COUNT=$(($# - 4))
    shift 3
    while AT=$1 && shift && [ "$AT" != "END-$NONCE" ]; do set -- "$@" "$AT"; done # drops the last word
    if ! command -v stat >/dev/null || ! stat -c '%s %a' "$@" </dev/null; then
        printf 'again\n'
        for AT in "$@"; do
            SIZE=$(wc -c <"$AT") || SIZE=-
            MODE=644
            [ ! -x "$AT" ] || MODE=755
            printf '%s %s\n' "${SIZE##* }" "$MODE"
        done
    fi
    printf 'end %s %s\n' "$NONCE" "$COUNT"
}

# stage_sums NONCE KIND ROOT NAME... END: for each a line that begins with its SHA-256, or `cksum CRC SIZE`.
stage_sums() {
    for LAST in "$@"; do :; done
    [ $# -ge 5 ] && [ "$LAST" = "END-$1" ] || return 0
    begin_stage "$1" "$2" "$3" || return 0
    NONCE=$1 COUNT=0
    shift 3
    while [ $# -gt 1 ]; do
        if [ ! -L "$1" ] && [ -f "$1" ]; then
            sha256sum <"$1" || { printf 'cksum ' && cksum <"$1"; } || printf 'gone\n'
        else
            printf 'gone\n'
        fi
        COUNT=$((COUNT + 1))
        shift
    done
    printf 'end %s %s\n' "$NONCE" "$COUNT"
}

# stage_sum NONCE KIND ROOT SIZE NAME END: as `stage_sums`, of the first SIZE bytes of one file that may be growing.
stage_sum() {
    [ $# -eq 6 ] && [ "$6" = "END-$1" ] || return 0
    begin_stage "$1" "$2" "$3" || return 0
    if [ -L "$5" ] || [ ! -f "$5" ] || [ ! -r "$5" ]; then
        printf 'gone\n'
    elif command -v sha256sum >/dev/null; then
        head -c "$4" <"$5" | sha256sum
    else
        printf 'cksum '
        head -c "$4" <"$5" | cksum
    fi
    printf 'end %s 1\n' "$1"
}

# stage_read NONCE KIND ROOT OFFSET SIZE NAME END: the bytes from OFFSET on, raw, as far as the first SIZE bytes of the file go
# (- for all), and then a line's end before the last line.
stage_read() {
    [ $# -eq 7 ] && [ "$7" = "END-$1" ] || return 0
    begin_stage "$1" "$2" "$3" || return 0
    if [ -L "$6" ] || [ ! -f "$6" ] || [ ! -r "$6" ]; then
        printf 'end %s gone\n' "$1"
    else
        printf 'data\n'
        if [ "$5" != - ]; then
            tail -c "+$(($4 + 1))" "$6" | head -c "$(($5 - $4))"
        elif [ "$4" = 0 ]; then
            cat "$6"
        else
            tail -c "+$(($4 + 1))" "$6"
        fi </dev/null
        printf '\nend %s 1\n' "$1"
    fi
}
exec 2>/dev/null
