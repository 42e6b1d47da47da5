#!/bin/sh
# The layers of "Microservices: an architecture from scratch using Docker, Swarm, Compose, Consul, Facter and Flocker" on a running cloud.
# All of them are parts of it: this makes a project, asks each layer by its own client, and serves a page that says which is which.
#
#   nacre up --detach && examples/microservices/up.sh
#
# NACRE_STATE names another cloud's state directory, NACRE the command (default: nacre), PAGE_PORT where the page is (default: 8088).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
nacre=${NACRE:-nacre}
state=${NACRE_STATE:-/var/lib/nacre}
project=microservices
export PAGE_PORT="${PAGE_PORT:-8088}"
export OS_CLIENT_CONFIG_FILE="$state/clouds.yaml" OS_CLOUD=nacre-admin
tries=60

say() { printf '%-16s %s\n' "$1" "$2"; }

# The project, and its socket: it comes a moment after the project.
openstack project show -f value -c id "$project" >/dev/null 2>&1 || openstack project create "$project" >/dev/null
until exports=$($nacre docker env --project "$project" 2>/dev/null); do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { $nacre docker env --project "$project"; exit 1; }
    sleep 1
done
eval "$exports"
socket=${DOCKER_HOST#unix://}
say project "$project, DOCKER_HOST=$DOCKER_HOST"

# Images: the registry speaks version 2 of its protocol, and asks who is there.
url=$(sed -n 's|.*auth_url: \(http://[^/]*\)/.*|\1|p' "$OS_CLIENT_CONFIG_FILE" | head -n 1)
status=$(curl -s -o /dev/null -w '%{http_code}' "$url/v2/")
[ "$status" = 401 ] || { echo "the registry answered $status" >&2; exit 1; }
say registry "$url/v2/ asks for a login"

# Scheduling: one engine, which is all the hosts.
docker info --format '{{range .SystemStatus}}{{index . 0}}={{index . 1}};{{end}}' | grep -q 'Strategy=.*Status=Healthy' ||
    { echo "docker info shows no healthy host" >&2; exit 1; }
say scheduling "$(docker info --format '{{range .SystemStatus}}{{if eq (index . 0) "Strategy" "Nodes"}}{{index . 0}} {{index . 1}} {{end}}{{end}}')"

# Orchestration: the page, by compose.
PAGE=$(cat "$here/index.html") docker-compose -f "$here/docker-compose.yml" -p "$project" up -d >/dev/null
say orchestration "$(docker ps --format '{{.Names}}' | tr '\n' ' ')by docker-compose"

# Data services: a volume of a profile.
docker volume create myVol@gold >/dev/null
say "data services" "volume $(docker volume ls -q | tr '\n' ' ')"

# Service discovery: what runs is registered.
until curl -s --unix-socket "$socket" http://consul/v1/catalog/service/page | grep -q '"ServiceName"'; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { echo "the page is not in the catalog" >&2; exit 1; }
    sleep 1
done
say discovery "page is in Consul's catalog"

# Applications: an image named redis, made here of busybox for want of a way to a hub.
if ! docker image inspect redis >/dev/null 2>&1; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    mkdir "$root/bin" "$root/data"
    cp "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/sleep"
    tar -C "$root" -c bin data | docker import --change 'CMD ["sleep", "1000000"]' - redis >/dev/null
fi
say image "redis, of busybox"
say page "http://127.0.0.1:$PAGE_PORT/"
