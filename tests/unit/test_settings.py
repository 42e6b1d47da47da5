"""`up --set NAME=VALUE`: what it takes, what it keeps, and what the manual says of it."""

from pathlib import Path

import click
import pytest

from nacre.cli import settings
from nacre.cloud.identity.compliance import SecurityCompliance
from nacre.cloud.image.sources import ImportRules

MANUAL = Path(__file__).resolve().parent.parent.parent / "docs" / "operations.md"


def test_settings_become_the_api_process_records() -> None:
    kept = settings.merged({}, ["security_compliance.lockout_failure_attempts=3", "image_import.allowed_ports=80,8080"])
    kept = settings.merged(kept, ["image_import.allowed_networks=127.0.0.0/8", "security_compliance.password_regex=^a=b$"])
    found = settings.groups(kept)
    assert found["security_compliance"] == SecurityCompliance(lockout_failure_attempts=3, password_regex="^a=b$")
    assert found["image_import"] == ImportRules((80, 8080), ("127.0.0.0/8",))
    again = settings.merged(kept, ["image_import.allowed_ports=", "image_import.allowed_networks="])
    assert settings.groups(again)["image_import"] == ImportRules()


@pytest.mark.parametrize(
    "wrong",
    [
        "nothing",
        "security_compliance.nothing=1",
        "security_compliance.lockout_failure_attempts=many",
        "security_compliance.lockout_failure_attempts=-1",
        "security_compliance.password_regex=(",
        "image_import.allowed_networks=everywhere",
        "image_import.allowed_ports=a,b",
    ],
)
def test_a_setting_that_makes_no_sense_ends_the_command(wrong: str) -> None:
    with pytest.raises(click.ClickException):
        settings.merged({}, [wrong])


def test_every_setting_is_in_the_operations_manual() -> None:
    manual = MANUAL.read_text()
    assert [name for name in settings.names() if f"`{name}`" not in manual] == []
