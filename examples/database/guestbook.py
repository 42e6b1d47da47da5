"""A guest book in a database: `guestbook.py PORT sign NAME` writes into it, `guestbook.py PORT read` shows it.

Needs PyMySQL. The password is $MYSQL_ROOT_PASSWORD; the host $DATABASE_HOST, or this one.
"""

import os
import sys
import time

import pymysql  # type: ignore[import-untyped]

WAIT_S = 120
"""How long a database may take until it answers."""
PAUSE_S = 0.5


def connect(port: int) -> pymysql.Connection:
    """A database that begins its work is waited for."""
    host, deadline = os.environ.get("DATABASE_HOST", "127.0.0.1"), time.monotonic() + WAIT_S
    while True:
        try:
            return pymysql.connect(host=host, port=port, user="root", password=os.environ["MYSQL_ROOT_PASSWORD"], autocommit=True)
        except pymysql.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)


def main(port: str, verb: str, *names: str) -> None:
    with connect(int(port)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS book")
        cursor.execute("CREATE TABLE IF NOT EXISTS book.guests (name VARCHAR(100) PRIMARY KEY)")
        if verb == "sign":
            cursor.executemany("INSERT INTO book.guests VALUES (%s)", names)
        cursor.execute("SELECT name FROM book.guests ORDER BY name")
        for (name,) in cursor.fetchall():
            print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
