#!/bin/sh
# Make the image `mysql`: MariaDB of Debian in an archive of a root file system ($1), which `docker import` turns into an image.
set -e
here=$(dirname "$(readlink -f "$0")")
rootfs=${1:-/var/tmp/mysql.tar}
slim="--dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/man/* --dpkgopt=path-exclude=/usr/share/locale/*"
if [ ! -s "$rootfs" ]; then
    # shellcheck disable=SC2086 # Words are meant.
    mmdebstrap --quiet --variant=minbase --include=mariadb-server-core,mariadb-client-core $slim \
        --customize-hook='chroot "$1" useradd --system --no-create-home mysql' \
        --customize-hook='mkdir -p "$1/var/lib/mysql"' \
        --customize-hook="upload $here/entrypoint.sh /entrypoint.sh" \
        --format=tar bookworm "$rootfs.part"
    mv "$rootfs.part" "$rootfs"
fi
docker import \
    --change 'ENTRYPOINT ["/bin/sh", "/entrypoint.sh"]' --change 'VOLUME /var/lib/mysql' --change 'EXPOSE 3306' \
    "$rootfs" mysql
