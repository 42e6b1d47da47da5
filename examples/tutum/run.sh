#!/bin/sh
# Brings the stack up, scales it, calls a trigger as a build server would, and takes it down again.
# NACRE is the command (default: nacre), PROJECT the project (default: demo).
set -eu
cd "$(dirname "$0")"
nacre=${NACRE:-nacre}
project=${PROJECT:-demo}

echo "== up: two web servers, linked to a keeper"
$nacre stack up -f tutum.yml --name visits --project "$project"
$nacre stack ps visits --project "$project"

echo "== scale: three web servers"
$nacre stack scale web.visits=3 --project "$project"

echo "== a trigger: whoever has its address may call it"
address=$($nacre stack trigger add web.visits --name build --project "$project")
curl -sSf -X POST -d '{"tag": "1.1"}' "$address" > /dev/null
sleep 1
until $nacre stack ps visits --project "$project" | grep -q '^web  *Running  *3/3'; do sleep 1; done
$nacre stack ps visits --project "$project"
$nacre stack trigger rm web.visits build --project "$project"
if curl -sf -X POST "$address" > /dev/null; then
    echo "the trigger still works" >&2
    exit 1
fi

echo "== export: the file of which it could be made again"
$nacre stack export visits --project "$project"

echo "== down"
$nacre stack down visits --project "$project"
$nacre stack ls --project "$project"
