# Runs user-data once, beside the image's command or init system, and keeps its exit status. Argument: the command's program.
seed=/.nacre
done=/var/lib/nacre
b() { applet=$1; shift; "$seed/busybox" "$applet" "$@"; }

case $(b readlink -f "$1") in
*/systemd)
    # Its units come first, as for cloud-init's last stage. A boot that hangs is waited for only so long: 30 s and 120 s.
    tries=300
    while [ ! -S /run/systemd/private ] && [ "$tries" -gt 0 ]; do
        tries=$((tries - 1))
        b sleep 0.1
    done
    b timeout 120 systemctl is-system-running --wait >/dev/null 2>&1
    ;;
esac

b sh "$seed/user-data" </dev/null
status=$?
echo "$status" >"$done/user-data"
echo "nacre-init: user-data ended with exit status $status"
