#!/bin/sh
# A fact of one's own: how busy this host was lately, in percent of its processors, two digits (00 to 99).
# It takes the place of the node's own system_overload_10min, which counts the processors' busy time of ten minutes; this one takes the
# mean of the kernel's load averages of five and fifteen minutes, so that waiting for disks counts too.
processors=$(nproc)
awk -v processors="$processors" '{
    percent = ($2 + $3) / 2 / processors * 100
    printf "system_overload_10min=%02d\n", (percent > 99 ? 99 : percent)
}' /proc/loadavg
