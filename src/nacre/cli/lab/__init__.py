"""`nacre lab`: a cloud of several hosts on one machine, to be tried and to be hurt.

Each host is a network namespace with an address of its own and a cable to a switch; in it runs a real node with real containers, which has
joined by `nacre join`. The API process and the cloud's own node run on the machine itself, which has a cable to the same switch.

    layout    names, addresses and places: what the files say
    wires     the switch, the cables, and which of them are cut
    hosts     joining, killing and starting a host
    command   the command line
"""
