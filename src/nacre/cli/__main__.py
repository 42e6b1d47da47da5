"""The command `nacre`. Every subcommand is a row of COMMANDS and is imported only when it runs, so that the CLI starts fast."""

import importlib
import os
import sys

import click

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("nacre.cli.up:up", "Start a cloud on this machine, or say that it runs."),
    "down": ("nacre.cli.down:down", "Stop the cloud; with --purge leave no trace of it."),
    "status": ("nacre.cli.status:status", "Show the cloud's processes, memory, hosts and counts."),
    "logs": ("nacre.cli.logs:logs", "Show what the API and node processes logged."),
    "doctor": ("nacre.cli.doctor:doctor", "Check this machine by trying, and name the remedies."),
    "join": ("nacre.cli.join:join", "Make this machine a host of a cloud that serves elsewhere."),
    "lab": ("nacre.cli.lab.command:lab", "Make a cloud of several hosts on this machine, and hurt it."),
    "api": ("nacre.cli.api:api", "Show the API processes; let other machines have some."),
    "host": ("nacre.cli.host:host", "Show hosts, let others join, cordon, remove and label them."),
    "server": ("nacre.cli.server:server", "Explain where servers and containers were placed."),
    "facts": ("nacre.cli.facts:facts", "Show what the hosts know of themselves."),
    "image": ("nacre.cli.images:image", "Build or pull images and register them."),
    "stack": ("nacre.cli.stack:stack", "Bring up stacks of services from Tutum's stack files."),
    "store": ("nacre.cli.store:store", "Show or move the store: SQLite, or PostgreSQL."),
    "docker": ("nacre.cli.docker:docker", "Join Docker's own tools and engines to the cloud."),
    "powerstrip": ("nacre.cli.powerstrip:powerstrip", "Put adapters in front of any Docker engine."),
    "audit": ("nacre.cli.audit:audit", "Hold intent, books and hosts against each other."),
    "keys": ("nacre.cli.keys:keys", "Rotate the keys that sign tokens."),
    "bench": ("nacre.cli.bench:bench", "Measure this machine's cloud."),
    "conformance": ("nacre.cli.conformance:conformance", "Run OpenStack's own tests against the cloud."),
    "test": ("nacre.cli.tiers:test", "Run linters, types and the test tiers."),
    "version": ("nacre.cli.status:version", "Show the version."),
}
"""Name -> where its click command is, and its line in the help."""


class Lazy(click.Group):
    """A group that knows its commands' names and help lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def nacre() -> None:
    """Nacre: a container-native cloud that OpenStack's own clients drive."""


def main() -> None:
    """The entry point of `nacre` and `python -m nacre.cli`."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    nacre(prog_name=os.environ.get("NACRE_COMMAND", "nacre"))


if __name__ == "__main__":
    main()
