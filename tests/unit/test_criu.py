"""What the node says to CRIU and reads from it: protocol buffers by hand, which CRIU's own would refuse if they were wrong."""

import pytest

from nacre.node.runtimes.containers.criu import swrk

BASE, COUNT = 300 * 65536, 65536


def test_what_was_said_is_what_is_read() -> None:
    inner = swrk.field(1, "dump.log") + swrk.field(2, 300)
    message = swrk.field(1, 7) + swrk.field(2, inner) + swrk.field(2, b"") + swrk.field(3, True) + swrk.field(16, 1 << 40)
    assert swrk.decode(message) == {1: [7], 2: [inner, b""], 3: [1], 16: [1 << 40]}
    assert swrk.decode(inner) == {1: [b"dump.log"], 2: [300]}


def test_a_list_is_a_repeated_option() -> None:
    said = swrk.decode(swrk.options({"external": ["mnt[/a]:/a", "mnt[/b]:/b"], "log_file": "dump.log"}))
    assert sorted(said.values()) == [[b"dump.log"], [b"mnt[/a]:/a", b"mnt[/b]:/b"]]


@pytest.mark.parametrize("broken", [b"\x80", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0d\x00\x00\x00\x00"])
def test_what_is_no_message_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match=r"number|wire type"):
        swrk.decode(broken)


def test_a_checkpoint_gets_the_ids_of_the_host_on_which_it_goes_on() -> None:
    entry = swrk.field(1, 0) + swrk.field(2, BASE) + swrk.field(3, COUNT)
    message = swrk.field(1, entry) + swrk.field(2, entry)
    image = b"magic\x00\x00\x00" + len(message).to_bytes(4, "little") + message
    moved = swrk.with_ids(image, 2 * BASE, COUNT)
    assert swrk.id_maps(moved) == (b"magic\x00\x00\x00", [(0, 2 * BASE, COUNT)])
    with pytest.raises(ValueError, match="not a guest's"):
        swrk.with_ids(image, 2 * BASE, COUNT - 1)
