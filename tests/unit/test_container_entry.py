"""Which first process an image asks for, and how it is told to stop."""

from pathlib import Path

import pytest

from nacre.node.images import ImageConfig
from nacre.node.runtimes.containers.entry import entry

KINDS = {
    "systemd": ("lib/systemd/systemd", False, "systemd", "SIGRTMIN+3"),
    "busybox": ("bin/busybox", True, "busybox", "SIGUSR2"),
    "busybox without inittab": ("bin/busybox", False, "", "SIGTERM"),
    "sysvinit": ("", True, "sysvinit", "SIGINT"),
    "openrc": ("sbin/openrc-init", False, "other", "SIGTERM"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_s_init_is_known_by_where_its_link_leads(kind: str, tmp_path: Path) -> None:
    target, has_table, init, stop_signal = KINDS[kind]
    for folder in ("sbin", "bin", "etc", "lib/systemd"):
        (tmp_path / folder).mkdir(parents=True)
    if target:
        (tmp_path / target).touch()
        (tmp_path / "sbin/init").symlink_to(f"/{target}")
    else:
        (tmp_path / "sbin/init").touch()
    if has_table:
        (tmp_path / "etc/inittab").touch()
    found = entry(tmp_path, ImageConfig(), "one")
    assert (found.init, found.stop_signal) == (init, stop_signal)
    assert (found.process.argv[-1] == "/sbin/init") == bool(init)
    assert ("container=oci" in found.process.environment) == bool(init)
    assert entry(tmp_path, ImageConfig(stop_signal="SIGQUIT"), "one").stop_signal == "SIGQUIT", "the image's word goes first"
    assert entry(tmp_path, ImageConfig(cmd=["nginx"]), "one").init == "", "a command of its own is no init system"
    assert entry(tmp_path, ImageConfig(cmd=["/lib/systemd/systemd"]), "one").init == "systemd"
