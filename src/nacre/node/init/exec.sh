#!/.nacre/busybox sh
exec "$@"
