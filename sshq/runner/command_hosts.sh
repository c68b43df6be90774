#!/bin/sh
# scontrol show hostnames inside a job, without asking anybody.  See command.sh.
# shellcheck disable=SC2034 # variables shared with command.sh

# u_hostnames LIST: what `scontrol show hostnames` prints, here and now; fails for what is better told by the head.
u_hostnames() {
    case $1 in '' | ,* | *, | *,,* | *[!\]\[A-Za-z0-9._,-]* | *\]\[*) return 1 ;; esac
    u_lines='' u_count=0 u_rest=$1, u_item=''
    set --
    while [ -n "$u_rest" ]; do # at commas, but not inside brackets
        u_item=$u_item${u_rest%%,*} u_rest=${u_rest#*,}
        case ${u_item##*]} in *\[*) u_item=$u_item, && continue ;; esac
        set -- "$@" "$u_item"
        u_item=
    done
    [ -z "$u_item" ] || return 1
    while [ $# -gt 0 ]; do
        u_item=$1
        shift
        case $u_item in
        *\[*\]*) ;;
        *[\]\[]*) return 1 ;;
        *)
            u_lines="$u_lines$u_item
" u_count=$((u_count + 1))
            [ "$u_count" -le 4096 ] || return 1
            continue
            ;;
        esac
        u_rest=${u_item#*\[}
        u_ranges=${u_rest%%]*},
        u_names=
        while [ -n "$u_ranges" ]; do
            u_range=${u_ranges%%,*} u_ranges=${u_ranges#*,}
            u_from=${u_range%%-*} u_to=${u_range#*-}
            case $u_from:$u_to in :* | *: | *[!0-9:]* | ??????????*) return 1 ;; esac
            u_width=${#u_from}
            u_from=$(u_plain "$u_from") u_to=$(u_plain "$u_to")
            [ "$u_from" -le "$u_to" ] && [ $((u_to - u_from)) -le 4096 ] || return 1
            while [ "$u_from" -le "$u_to" ]; do
                u_number=$u_from
                while [ "${#u_number}" -lt "$u_width" ]; do u_number=0$u_number; done
                u_names="$u_names ${u_item%%\[*}$u_number${u_rest#*]}"
                u_from=$((u_from + 1))
            done
        done
        # shellcheck disable=SC2086 # words without blanks
        set -- $u_names "$@"
        [ $# -le 4096 ] || return 1
    done
    printf '%s' "$u_lines"
}

u_plain() { # NUMBER: without zeros in front, which some shells read as octal
    u_value=$1
    while :; do case $u_value in 0?*) u_value=${u_value#0} ;; *) break ;; esac done
    printf '%s' "$u_value"
}
