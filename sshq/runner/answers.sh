#!/bin/sh
# Commands inside jobs, the runner's part: what the controller answers them, and saying again which of them wait.
# See command.sh, which is the other end, and runner.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

# find_caller ID TOKEN: CALL is its directory; fails where nobody waits there any more.
find_caller() {
    CALL=a/$1.calls/$2 CALLER='' CALLER_START=''
    read -r _ CALLER CALLER_START _ <"$CALL/ready" && is_number "$CALLER" && is_number "$CALLER_START" &&
        is_alive "$CALLER" "$CALLER_START"
} 2>/dev/null

# call_answer TAG ID TOKEN N KIND DATA STATUS END: piece N of an answer; the same one may come again.  STATUS is - until it is
# known; if it is empty nothing is said, only asked.  KIND - has no piece; one that begins with b has escapes in its data.
call_answer() {
    [ $# -eq 8 ] && [ "$8" = "END-$1" ] && is_id "$2" && is_id "$3" && is_number "$4" || return 0
    begin_answer "$1" "$2" "$3" "$4.${5#b}" state seen || return 0
    # What is there already the command may be reading.
    COUNT=0
    read -r COUNT _ <"$CALL/state"
    is_number "$COUNT" || COUNT=0
    if [ "$4" -gt "$COUNT" ]; then
        COUNT=$4
        case $5 in
        out | err) printf '%s' "$6" >|"$CALL/$4.$5" || OK=0 ;;
        bout | berr) printf '%b' "$6" >|"$CALL/$4.${5#b}" || OK=0 ;;
        esac
    fi
    [ "$OK" = 0 ] || [ -z "$7" ] || printf '%s %s .\n' "$COUNT" "$7" >|"$CALL/state" || OK=0
    SEEN=''
    read -r SEEN _ <"$CALL/seen"
    is_number "$SEEN" || SEEN=0
    end_answer "$1" kept
} 2>/dev/null

# call_question TAG ID TOKEN QUESTION KIND DATA END: asks the command for something; may come again, until it is given.
call_question() {
    [ $# -eq 7 ] && [ "$7" = "END-$1" ] && is_id "$2" && is_id "$3" && is_id "$4" || return 0
    SEEN=0
    begin_answer "$1" "$2" "$3" "$4.${5#b}" question || return 0
    if [ -e "$CALL/$4.in" ]; then
        end_answer "$1" given
        return 0
    fi
    LAST=''
    read -r LAST _ <"$CALL/question"
    [ "$LAST" = "$4" ] || case $5 in
    read | stdin | path | data | nonce) printf '%s' "$6" >|"$CALL/$4.$5" || OK=0 ;;
    bdata) printf '%b' "$6" >|"$CALL/$4.data" || OK=0 ;;
    esac
    [ "$OK" = 0 ] || [ "$LAST" = "$4" ] || printf '%s %s .\n' "$4" "${5#b}" >|"$CALL/question" || OK=0
    end_answer "$1" kept
} 2>/dev/null

# begin_answer TAG ID TOKEN FILE...: sets CALL and OK.  Anything but a plain file there was put in our way: to open it could
# hang us.
begin_answer() {
    OK=1 LAST=$1
    if ! find_caller "$2" "$3"; then
        say "B $1 gone 0"
        return 1
    fi
    shift 3
    for OTHER in "$@"; do
        [ ! -e "$CALL/$OTHER" ] || [ -f "$CALL/$OTHER" ] || OK=0
    done
    [ "$OK" = 1 ] || end_answer "$LAST" ''
}

end_answer() { # TAG WORD
    if [ "$OK" = 1 ]; then say "B $1 $2 $SEEN"; else say "E $1 answer could not be written"; fi
    [ "$OK" = 1 ]
}

# announce_calls: those whose bell nobody heard; what the dead left goes.
announce_calls() {
    TOLD=0
    set --
    for OTHER in a/*.calls/*/ready; do
        LAST=${OTHER%/ready}
        STAGE=${LAST%.calls/*}
        if ! is_id "${LAST##*/}" || ! is_id "${STAGE#a/}"; then continue; fi
        if find_caller "${STAGE#a/}" "${LAST##*/}"; then
            say "U ${STAGE#a/} ${LAST##*/} again"
        elif [ -e "$OTHER" ]; then
            set -- "$@" "$LAST"
        fi
        TOLD=$((TOLD + 1))
        [ "$TOLD" -lt 1000 ] || break
    done
    [ $# -eq 0 ] || { rm -rf "$@"; } </dev/null 8>&- &
}
