"""The commands of an installation. They parse; what they do is elsewhere and imported when it is needed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from server.commands.journal import journal
from server.commands.running import await_settings, importing, operator_settings, process_settings, run, say
from server.commands.secrets import secrets
from server.commands.timers import timers


@click.command()
@click.option("--listen", help="Address for gRPC; SWITCHBOARD_LISTEN.")
@click.option("--internal-listen", help="Address for health, reflection and channelz; SWITCHBOARD_INTERNAL_LISTEN.")
@click.option(
    "--standby", is_flag=True, help="Import, then wait for a line on standard input: a JSON object of settings."
)
def serve(listen: str | None, internal_listen: str | None, *, standby: bool) -> None:
    """Serve the API behind Envoy."""
    with importing():
        from server import app

    if standby:
        await_settings()
    settings = process_settings()
    say(lambda: app.run(settings, listen or settings.listen, internal_listen or settings.internal_listen))


@click.command()
@click.option("--internal-listen", help="Address for health, reflection and channelz; SWITCHBOARD_INTERNAL_LISTEN.")
def work(internal_listen: str | None) -> None:
    """Run timers, deliveries and what follows the log."""
    with importing():
        from server import worker

    settings = process_settings()
    say(lambda: worker.run(settings, internal_listen or settings.internal_listen))


@click.command()
@click.option(
    "--parallel", type=click.IntRange(1, 64), default=4, show_default=True, help="Databases migrated at a time."
)
def migrate(parallel: int) -> None:
    """Bring the control database and all tenants to this release. May be stopped and run again at any moment."""
    from server.tenancy import migrate as migration

    settings = operator_settings()
    raise SystemExit(run(lambda: migration.run(settings, parallel=parallel)))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of the table.")
@click.option("--tenant", "tenant_name", help="Look at this tenant alone, and at what all stand on.")
@click.option("--internal", multiple=True, help="Internal address of a serve or work process; may be repeated.")
@click.option("--envoy-admin", help="Address of Envoy's admin page, such as http://127.0.0.1:9901.")
@click.option(
    "--disk-free", type=click.IntRange(0), default=1024, show_default=True, help="MB wanted free on each disk."
)
@click.option("--transaction", type=click.IntRange(1), default=300, show_default=True, help="Seconds one may be open.")
def doctor(
    *,
    as_json: bool,
    tenant_name: str | None,
    internal: tuple[str, ...],
    envoy_admin: str | None,
    disk_free: int,
    transaction: int,
) -> None:
    """Look at every dependency, version, migration, lag, clock and disk; say what is wrong and what to do.

    Exit code 0: all is well; 1: something is not; 2: something could not be looked at.
    """
    from server.doctor import show, visit
    from server.doctor.finding import Limits

    limits = Limits(disk_free_bytes=disk_free << 20, transaction=timedelta(seconds=transaction))
    asked = visit.Asked(tenant=tenant_name, internal=internal, envoy_admin=envoy_admin, limits=limits)
    report = asyncio.run(visit.examine(asked))
    show.show(report, as_json=as_json)
    raise SystemExit(report.exit_code)


@click.group()
def tenant() -> None:
    """Create and list tenants."""


@tenant.command("create")
@click.argument("name")
def tenant_create(name: str) -> None:
    """Create a tenant and show its first API key, this once."""
    from server.tenancy import operator

    settings = operator_settings()
    made = run(lambda: operator.create_tenant(settings, name))
    click.echo(f"tenant {made.id} ({name})\nAPI key, shown this once: {made.key}")


@tenant.command("list")
def tenant_list() -> None:
    """List all tenants by name."""
    from server.tenancy import operator

    settings = operator_settings()
    rows = run(lambda: operator.list_tenants(settings))
    wide = max((len(row.name) for row in rows), default=4)
    click.echo(f"{'id':<36}  {'name':<{wide}}  {'state':<8}  {'schema':<16}  migration error".rstrip())
    for row in rows:
        line = f"{row.id}  {row.name:<{wide}}  {row.state:<8}  {row.schema_revision or '-':<16}"
        click.echo(f"{line}  {row.migration_error or ''}".rstrip())


@tenant.command("limit")
@click.argument("name")
@click.option("--calls", type=click.IntRange(0), help="Unary calls per second of all its callers; 0: no limit.")
@click.option("--caller-calls", type=click.IntRange(0), help="Of one API key or agent.")
def tenant_limit(name: str, calls: int | None, caller_calls: int | None) -> None:
    """Give a tenant limits of its own; without an option, those of the settings again."""
    from server.tenancy import operator

    settings = operator_settings()
    run(lambda: operator.limit_tenant(settings, name, calls=calls, caller_calls=caller_calls))


@click.command("platform-key")
def platform_key() -> None:
    """Print the operator's key, which tenants and Meta apps are managed with."""
    from server.tenancy import operator

    settings = operator_settings()
    click.echo(run(lambda: operator.platform_key(settings)))


@click.command("rebuild-statistics")
@click.option("--tenant", "tenant_name", required=True, help="Name or id of the tenant.")
def rebuild_statistics(tenant_name: str) -> None:
    """Have a tenant's statistics counted anew from its log; what is older than the log stays as it was counted."""
    from server.conversations.statistics import follow
    from server.tenancy.operator import opened_tenant

    settings = operator_settings()

    async def rebuild() -> Any:
        async with opened_tenant(settings, tenant_name) as (_, tenant):
            return await tenant.database.write(follow.rebuild)

    since = run(rebuild)
    what = "everything" if since is None else f"what happened since {since.isoformat()}"
    click.echo(f"{what} is counted anew; a worker does it, and answers say in as_of how far it is")


@click.command()
@click.argument("agent")
@click.option("--tenant", "tenant_name", help="Name of the tenant; else the first one made.")
@click.option("--minutes", type=click.IntRange(1, 15), default=15, show_default=True, help="How long it shall be good.")
def token(agent: str, tenant_name: str | None, minutes: int) -> None:
    """Print a token for an agent, given by name, e-mail or id."""
    from server.auth import operator

    settings = operator_settings()
    lifetime = timedelta(minutes=minutes)
    click.echo(run(lambda: operator.issue_token(settings, agent, tenant_name=tenant_name, lifetime=lifetime)))


@click.command()
@click.option("--listen", required=True, help="host:port on loopback, for the Graph API and its control; port 0: any.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True, help="JSON file."
)
def simulator(listen: str, config: Path) -> None:
    """Stand in for Meta: a Graph API that validates, answers, and sends signed webhooks.

    Listens on loopback only, since its control API under /_control asks for no token: be a customer, send receipts, arm
    faults, move its clock. The configuration names its numbers; docs/simulator.md has an example and every call.
    """
    from server.simulator import app

    asyncio.run(app.run(listen=listen, config_path=config))


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="How long to play; else until Ctrl-C.")
@click.option("--customers", type=click.IntRange(1, 100), default=12, show_default=True, help="How many people write.")
@click.option(
    "--speed", type=click.FloatRange(0.1, 20), default=1.0, show_default=True, help="How fast all of them are."
)
@click.option("--plain", is_flag=True, help="Lines in the place of a screen, as for a log.")
@click.option("--faults", is_flag=True, help="Spoil the provider and kill processes meanwhile.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of all that is left to chance.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Write the last screen there, as SVG.")
def demo(**chosen: Any) -> None:
    """Play: simulated customers and agents on a stack of its own, live in this terminal, and a proof at the end."""
    from server.demo import demo as play

    raise SystemExit(play.run(play.Options(**chosen)))


def commands() -> list[click.Command]:
    """The commands of the server, for the command line of the whole product."""
    return [
        up,
        serve,
        work,
        migrate,
        tenant,
        platform_key,
        token,
        journal,
        timers,
        secrets,
        rebuild_statistics,
        simulator,
        doctor,
        demo,
    ]


@click.command()
def up() -> None:
    """Start everything on this machine: databases, edge, servers, worker, simulator."""
    from server.embedded.up import up as run

    settings = process_settings()
    raise SystemExit(
        run(
            home=settings.home,
            http_port=settings.http_port,
            tls_port=settings.tls_port,
            cors_origins=settings.cors_origins,
        )
    )


main = click.Group("switchboard", commands={command.name or "": command for command in commands()})

if __name__ == "__main__":
    main()
