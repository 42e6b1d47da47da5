#!/bin/sh
# The database's first process. A volume without data gets the system tables and root's password.
set -e
data=/var/lib/mysql
if [ ! -d "$data/mysql" ]; then
    chown mysql:mysql "$data"
    mariadb-install-db --user=mysql --datadir="$data" --skip-test-db --auth-root-authentication-method=normal >/dev/null
    password=$(printf %s "$MYSQL_ROOT_PASSWORD" | sed "s/[\\\\']/\\\\&/g")
    umask 077
    cat >/tmp/first.sql <<SQL
CREATE USER root@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
ALTER USER root@localhost IDENTIFIED BY '$password';
SQL
    chown mysql:mysql /tmp/first.sql
    first=--init-file=/tmp/first.sql
fi
exec mariadbd --user=mysql --datadir="$data" --socket=/tmp/mysql.sock --pid-file=/tmp/mysql.pid --bind-address=0.0.0.0 $first
