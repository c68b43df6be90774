#!/bin/sh
# The lease of a job: it may run for so long after a moment of this node's clock that its controller has heard of.  See runner.sh.
# Counted by the uptime, which no clock setting moves and which goes on while a machine sleeps.  The controller renews for all
# jobs of its spool at once (call_renew), naming a moment it read here before: however long such a call is on its way, it never
# says more than it did at first.  Part of the supervisor; what is safe about it: ARCHITECTURE.md, section 4.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

start_lease() {
    watch_lease &
    LEASE_DOG=$!
}

lease_lasts() { # sets LEFT: seconds
    SEEN='' AGAIN='' PLACE=''
    read -r _ SEEN AGAIN PLACE 2>/dev/null <lease || :
    if is_number "$SEEN" && [ "$SEEN" = "$AGAIN" ] && [ "$PLACE" = "$BOOT" ]; then
        SEEN=$((SEEN - LEASE_BASE))
        [ "$SEEN" -le "$job_lease_from" ] || job_lease_from=$SEEN
    fi
    now
    LEFT=$((job_lease_from + job_lease - ${UPTIME%.*}))
    [ "$LEFT" -gt 0 ]
}

check_lease() { # too late for any grace, after a sleep of the machine: at once
    if lease_lasts && look "$LEASE_DOG" && [ "$PARENT" = "$ME" ]; then return; fi
    [ "$LEFT" -le 0 ] || LEFT=-$job_lease_grace # its watchdog is gone
    if [ $((LEFT + job_lease_grace)) -gt 0 ]; then
        begin_ending lease TERM $((LEFT + job_lease_grace)) ' DUE TO THE END OF ITS LEASE'
    else
        begin_ending lease KILL 0 ' DUE TO THE END OF ITS LEASE'
    fi
}

watch_lease() {
    GONE='' SLEEP=''
    trap '[ -n "$GONE" ] || kill -s USR2 "$ME"' EXIT # a shell that cannot fork ends here
    trap 'GONE=1' TERM
    while lease_lasts; do
        # A sleep does not go on while its machine is suspended, as the uptime does: short ones, so that it wakes in time.
        [ "$LEFT" -le 15 ] || LEFT=15
        doze "$LEFT"
    done
    trap - EXIT
    GRACE=$((LEFT + job_lease_grace))
    [ "$GRACE" -gt 0 ] || GRACE=0
    knock_or_stand_in "$GRACE"
}
