#!/bin/sh
# A database on a volume with a profile, an application that uses it, and a second database on a snapshot of the first one's volume.
#
#   eval "$(nacre docker env --project demo)" && examples/database/run.sh
#
# PORT and SNAP_PORT are where the databases are published (3306, 3307); PYTHON is a Python that has PyMySQL.
set -e
here=$(dirname "$(readlink -f "$0")")
port=${PORT:-3306}
snap_port=${SNAP_PORT:-3307}
python=${PYTHON:-python3}
export MYSQL_ROOT_PASSWORD="${MYSQL_ROOT_PASSWORD:-my-secret-pw}"

docker image inspect mysql >/dev/null 2>&1 || "$here/image.sh"

# The database, on a volume of the profile gold.
docker run -d --name MySQL --volume-driver flocker -v demoVol@gold:/var/lib/mysql -p "$port:3306" -e MYSQL_ROOT_PASSWORD mysql
"$python" "$here/guestbook.py" "$port" sign Ada Grace

# The id of its data set.
docker inspect --format='{{.Mounts}}' MySQL
dataset=$(docker inspect --format='{{(index .Mounts 0).Source}}' MySQL)
dataset=${dataset#/flocker/}
prefix=$(printf %.8s "$dataset")

# A second one beside it, with the data that the first one has now.
docker run -d --name MySQL-snap --volume-driver flocker -e affinity:container==MySQL \
    -v "demoVol-snap@snapshot-$prefix:/var/lib/mysql" -p "$snap_port:3306" -e MYSQL_ROOT_PASSWORD mysql

# What is written from here on, each has for itself.
"$python" "$here/guestbook.py" "$port" sign Linus >/dev/null
"$python" "$here/guestbook.py" "$snap_port" sign Barbara >/dev/null
echo "first: $("$python" "$here/guestbook.py" "$port" read | tr '\n' ' ')"
echo "snapshot: $("$python" "$here/guestbook.py" "$snap_port" read | tr '\n' ' ')"
