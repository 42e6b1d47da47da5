# The first process of a guest whose image has no cloud-init. Runs under the busybox beside it, as root, on the console.
# Arguments: the image's user (or nothing), then the command that becomes the first process; none: stay and reap.
seed=/.nacre
done=/var/lib/nacre
say() { echo "nacre-init: $*"; }
b() { applet=$1; shift; "$seed/busybox" "$applet" "$@"; }

user=$1
shift

b mkdir -p "$done" 2>/dev/null
say "guest $(b hostname) starts"
# Whoever reads the console wants to know where to find the guest; the node wrote it there.
while read -r address name rest; do
    case $address in
    "" | "#"* | 127.* | ::1) ;;
    *) say "address $address" ;;
    esac
done 2>/dev/null </etc/hosts

# Each part is a script that the node made ready. A part that fails is reported and does not keep the guest from starting.
if [ -f "$seed/every-boot" ]; then
    b sh "$seed/every-boot" </dev/null
    status=$?
    [ "$status" = 0 ] || say "bootcmd ended with exit status $status"
fi
if [ ! -e "$done/set-up" ]; then
    if [ -f "$seed/set-up" ]; then
        b sh "$seed/set-up" </dev/null
        status=$?
        [ "$status" = 0 ] || say "setting up ended with exit status $status"
    fi
    : >"$done/set-up"
fi

if [ -f "$seed/user-data" ] && [ ! -e "$done/user-data" ]; then
    : >"$done/user-data"
    # In a session of its own: an init system gives the console away, which hangs up on all who stay in the first one.
    b setsid "$seed/busybox" sh "$seed/run-user-data" "${1-}" &
fi

if [ $# -gt 0 ]; then
    if [ -n "$user" ] && [ "$user" != root ] && [ "$user" != 0 ]; then
        name=${user%%:*}
        case $name in
        *[!0-9]*) ;;
        *)
            known=$(b awk -F: -v id="$name" '$3 == id { print $1; exit }' /etc/passwd 2>/dev/null)
            if [ -z "$known" ]; then
                case $user in *:*) group=${user#*:} ;; *) group=0 ;; esac
                known=user$name
                echo "$known:x:$name:$group::/:/bin/sh" >>/etc/passwd
            fi
            name=$known
            ;;
        esac
        exec "$seed/busybox" su -p -s "$seed/exec" "$name" -- "$@"
    fi
    exec "$@"
    say "cannot run $1"
    exit 127
fi

say "ready"
trap 'kill -TERM -1 2>/dev/null; exit 0' TERM INT
while :; do
    b sleep 2147483647 &
    wait $!
done
