#!/bin/sh
# Calls about the parts of a launch: what its holder starts, what input it is fed.  See sshq/kinds/holder.sh and runner.sh.
# shellcheck disable=SC2034,SC2153 # variables shared with the other parts of the program

is_token() {
    case $1 in '' | *[!A-Za-z0-9]*) return 1 ;; esac
    [ ${#1} -le 40 ]
}

# may_have_parts TAG ID: it has started and has not ended; and its place for parts is there.
may_have_parts() {
    if [ ! -f "a/$2.go" ] || read_record "$2" || [ "$RECORD" != - ]; then
        say "Y $1 gone"
        return 1
    fi
    [ -d "a/$2.parts" ] || mkdir "a/$2.parts" || [ -d "a/$2.parts" ] && return 0
    say "E $1 part no space for it"
    return 1
} 2>/dev/null

# call_piece ID TOKEN FIRST CHUNK END: of a large request, ahead of it and in order.
call_piece() {
    [ $# -eq 5 ] && [ "$5" = "END-$2" ] && is_id "$1" && is_token "$2" || return 0
    [ -f "a/$1.go" ] || return 0
    [ -d "a/$1.parts" ] || mkdir "a/$1.parts"
    if [ "$3" = 1 ]; then printf '%s' "$4" >|"a/$1.parts/$2.new"; else printf '%s' "$4" >>"a/$1.parts/$2.new"; fi
} 2>/dev/null

# call_start_part TAG ID TOKEN REQ PTY MAIN END: made exclusively, so that a repetition starts nothing again.  PTY: 1 a terminal on
# the holder's leash, 2 one in a job that has no holder.
call_start_part() {
    [ $# -eq 7 ] && [ "$7" = "END-$1" ] && is_id "$2" && is_token "$3" || return 0
    may_have_parts "$1" "$2" || return 0
    if [ -s "a/$2.parts/$3/req" ]; then
        say "Y $1 known"
        return 0
    fi
    [ -z "$4" ] || printf '%s' "$4" >|"a/$2.parts/$3.new" || : >|"a/$2.parts/$3.new"
    { [ -s "a/$2.parts/$3.new" ] && mkdir -p "a/$2.parts/$3"; } || {
        say "E $1 part no space for it"
        return 0
    }
    { [ "$5" != 0 ] || { true >>"a/$2.parts/$3/out" && true >>"a/$2.parts/$3/err"; }; } || : # for whoever reads at once
    [ "$6" != 1 ] || true >|"a/$2.parts/$3/main"
    [ "$5" != 1 ] || [ -p "a/$2.parts/$3/leash" ] || mkfifo "a/$2.parts/$3/leash"
    mv -f "a/$2.parts/$3.new" "a/$2.parts/$3/req" || {
        say "E $1 part no space for it"
        return 0
    }
    ring_holder "$2" "$3"
    say "Y $1 made"
} 2>/dev/null

ring_holder() { if [ -p "a/$1.parts/bell" ]; then printf '%s\n' "$2" 1<>"a/$1.parts/bell"; fi; }

# call_ask_part TAG ID TOKEN END: what has become of it
call_ask_part() {
    [ $# -eq 4 ] && [ "$4" = "END-$1" ] && is_id "$2" && is_token "$3" || return 0
    CODE=''
    if read -r CODE <"a/$2.parts/$3/rc" && is_number "$CODE"; then
        say "Y $1 ended $CODE"
    elif [ ! -f "a/$2.go" ] || read_record "$2" || [ "$RECORD" != - ]; then
        say "Y $1 gone"
    elif read -r CODE _ <"a/$2.parts/$3/pid" && is_number "$CODE"; then
        say "Y $1 started $CODE"
    elif [ -s "a/$2.parts/$3/req" ]; then
        say "Y $1 made"
    else
        say "Y $1 none"
    fi
} 2>/dev/null

# call_signal_part TAG ID TOKEN SIGNAL END: the part's session leader and its group
call_signal_part() {
    [ $# -eq 5 ] && [ "$5" = "END-$1" ] && is_id "$2" && is_token "$3" || return 0
    PROCESS='' BEGUN=''
    if [ ! -e "a/$2.parts/$3/rc" ] && read -r PROCESS BEGUN <"a/$2.parts/$3/pid" && is_number "$PROCESS" && is_alive "$PROCESS" "$BEGUN" &&
        { group_kill "$4" "$PROCESS" || kill -s "$4" "$PROCESS"; }; then
        say "Y $1 signalled"
    else
        say "Y $1 gone"
    fi
} 2>/dev/null

# call_end_parts TAG ID CODE END: the holder ends its parts and itself.  The first code counts.
call_end_parts() {
    [ $# -eq 4 ] && [ "$4" = "END-$1" ] && is_id "$2" && is_number "$3" || return 0
    may_have_parts "$1" "$2" || return 0
    [ -s "a/$2.parts/end" ] || printf '%s\n' "$3" >|"a/$2.parts/end.new" && mv -f "a/$2.parts/end.new" "a/$2.parts/end"
    ring_holder "$2" end
    say "Y $1 ending"
} 2>/dev/null

# call_input TAG ID TOKEN NUMBER FIRST WHOLE FORMAT END: input of a part ("main": of the launch itself), a piece of one chunk.
# FORMAT is for printf, which makes any byte of octal digits.  An empty last chunk is the end.
call_input() {
    [ $# -eq 8 ] && [ "$8" = "END-$1" ] && is_id "$2" && is_token "$3" && is_number "$4" || return 0
    may_have_parts "$1" "$2" || return 0
    PLACE=a/$2.parts/$3/in
    [ -d "$PLACE" ] || mkdir -p "$PLACE"
    [ -p "$PLACE/bell" ] || mkfifo "$PLACE/bell"
    AT=0
    read -r AT <"$PLACE/next" && is_number "$AT" || AT=0
    if [ -e "$PLACE/closed" ]; then
        say "Y $1 closed"
        return 0
    fi
    if [ "$4" -ge "$AT" ] && [ ! -e "$PLACE/$4.whole" ] && [ ! -e "$PLACE/end" ]; then
        if [ -z "$7" ]; then
            printf '%s\n' "$4" >|"$PLACE/end.new" && mv -f "$PLACE/end.new" "$PLACE/end"
        else
            # shellcheck disable=SC2059
            if [ "$5" = 1 ]; then printf "$7" >|"$PLACE/$4"; else printf "$7" >>"$PLACE/$4"; fi || {
                say "E $1 input no space for it"
                return 0
            }
            [ "$6" != 1 ] || true >|"$PLACE/$4.whole"
        fi
        [ "$6" != 1 ] || printf 'go\n' 1<>"$PLACE/bell"
    fi
    [ "$6" != 1 ] || say "Y $1 took $AT"
} 2>/dev/null
