"""`switchboard journal`: look at received payloads, and read them anew with the present parser."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from server.commands.running import operator_settings, run
from server.commands.tables import print_table, progress_bar, table, time_of

if TYPE_CHECKING:
    from server.intake.operator import Office
    from server.intake.replay import Report
    from server.journal.browse import Entry
    from server.journal.items import ItemRow
    from server.journal.service import Range

AGO = re.compile(r"(\d{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
KEPT = timedelta(days=31)
# What came a moment ago is being applied by whoever received it, or waits for its channel to be connected.
SETTLING = timedelta(minutes=1)


class Moment(click.ParamType[datetime]):
    """A time: ISO 8601, UTC where it names no zone, or so long ago: 90s, 15m, 2h, 3d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment in UTC."""
        if isinstance(value, datetime):
            return value
        if ago := AGO.fullmatch(value):
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail("give a time such as 2026-11-22T21:30, or 90s, 15m, 2h, 3d for so long ago", param, ctx)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


@click.group()
def journal() -> None:
    """Look at received payloads, and read them anew."""


def _tenant(command: Any) -> Any:
    return click.option("--tenant", "tenant_name", required=True, help="Name or id of the tenant.")(command)


@journal.command("list")
@_tenant
@click.option("--since", type=Moment(), help="Received since then; a day ago when not given.")
@click.option("--until", type=Moment(), help="Received before then.")
@click.option("--state", type=click.Choice(["received", "applied", "failed"]), help="Of the payload.")
@click.option("--failed", is_flag=True, help="Failed payloads, and those with failed items.")
@click.option("--items", "all_items", is_flag=True, help="Every item, not only those that were not applied.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Payloads at most.")
def list_(
    *,
    tenant_name: str,
    since: datetime | None,
    until: datetime | None,
    state: str | None,
    failed: bool,
    all_items: bool,
    limit: int,
) -> None:
    """List payloads, the newest first, with what became of them. Shows ids, states and reasons; no customer data."""
    from server.journal import browse

    now = datetime.now(UTC)
    start, end = since or now - timedelta(days=1), until or now + timedelta(days=1)

    async def read(office: Office) -> None:
        async with office.tenant.database.snapshot() as connection:
            entries = await browse.entries(connection, since=start, until=end, state=state, failed=failed, limit=limit)
            items = await browse.items(connection, [entry.id for entry in entries])
        _show_entries(entries, items)
        _show_items([item for item in items if all_items or item.state not in ("applied", "duplicate")])

    _with(tenant_name, read)


@journal.command("show")
@_tenant
@click.argument("payload_id", type=click.UUID, metavar="ID")
def show(tenant_name: str, payload_id: uuid.UUID) -> None:
    """Show one payload with its items and its raw body, which is customer data."""
    from server.journal import browse

    async def read(office: Office) -> None:
        async with office.tenant.database.snapshot() as connection:
            entry = await browse.entry(connection, payload_id)
            if entry is None:
                raise click.ClickException("there is no such payload; payloads are kept 30 days")
            items, body = await browse.items(connection, [entry.id]), await browse.body(connection, entry.id)
        _show_entries([entry], items)
        _show_items(items)
        click.echo(f"The body as it came, {entry.size} bytes; it is customer data:", err=True)
        click.echo(body.decode("utf-8", "backslashreplace"))

    _with(tenant_name, read)


@journal.command("replay")
@_tenant
@click.option("--since", type=Moment(), help="Received since then; everything that is kept when not given.")
@click.option("--until", type=Moment(), help="Received before then; the last minute is never taken.")
@click.option("--id", "ids", type=click.UUID, multiple=True, help="These payloads alone; may be repeated.")
@click.option("--apply", "apply_", is_flag=True, help="Apply the differences; without it nothing is changed.")
def replay(
    *, tenant_name: str, since: datetime | None, until: datetime | None, ids: tuple[uuid.UUID, ...], apply_: bool
) -> None:
    """Read payloads anew with the present parser, show what differs from what is stored, and with --apply put it right.

    Sends nothing. May be stopped, repeated, and run beside everything else.
    """
    from server.journal.service import Range

    now = datetime.now(UTC)
    wanted = Range(since or now - KEPT, min(until or now, now - SETTLING), ids)

    async def read(office: Office) -> None:
        await _replay(office, wanted, apply_=apply_)

    _with(tenant_name, read)


async def _replay(office: Office, wanted: Range, *, apply_: bool) -> None:
    from server.intake.replay import Report

    report = Report()
    try:
        with progress_bar("payloads", await office.replay.count(wanted)) as advance:
            await office.replay.run(wanted, apply=apply_, report=report, advance=advance)
    except BaseException:
        _show_report(report, applied=apply_)
        if report.reached is not None:
            click.echo(f"stopped; go on with --since {report.reached.isoformat()}", err=True)
        raise
    _show_report(report, applied=apply_)
    if report.errors:
        raise SystemExit(1)


def _with(tenant_name: str, work: Any) -> None:
    from server.intake import operator

    settings = operator_settings()

    async def opened() -> None:
        async with operator.opened(settings, tenant_name) as office:
            await work(office)

    run(opened)


def _show_entries(entries: Sequence[Entry], items: Sequence[ItemRow]) -> None:
    if not entries:
        click.echo("no payloads")
        return
    found = table("id", "received", "state", "attempts", "error", "parser", "signed with", "part", "bytes", "items")
    for entry in entries:
        found.add_row(
            *(str(entry.id), time_of(entry.receive_time), entry.state, str(entry.attempts), entry.error or "-"),
            *("-" if entry.parser_version is None else str(entry.parser_version), entry.signed_with),
            *("split" if entry.split else "whole", str(entry.size), _counted(entry.id, items)),
        )
    print_table(found)


def _counted(payload_id: uuid.UUID, items: Sequence[ItemRow]) -> str:
    states = [item.state for item in items if item.journal_id == payload_id]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "-"


def _show_items(items: Sequence[ItemRow]) -> None:
    if not items:
        return
    found = table("item", "payload", "kind", "state", "reason", "parser")
    for item in items:
        # The result of what was applied is the message's id; else it is why not.
        row = (str(item.id), str(item.journal_id), item.kind, item.state, item.result or "-", str(item.parser_version))
        found.add_row(*row)
    print_table(found)


def _show_report(report: Report, *, applied: bool) -> None:
    from server.intake.shadow import MEANING

    click.echo(f"{report.payloads} payloads with {report.items} items")
    if not report.differs:
        click.echo("nothing differs")
        return
    found = table("differs", "kind", "count", "found in, for example")
    for (verdict, kind), tally in sorted(report.differs.items()):
        meaning = MEANING[verdict] if applied else MEANING[verdict].partition(":")[0]
        found.add_row(meaning, kind, str(tally.count), " ".join(map(str, tally.payloads)))
    for error, tally in sorted(report.errors.items()):
        found.add_row("could not be applied", error, str(tally.count), " ".join(map(str, tally.payloads)))
    print_table(found)
    if not applied:
        click.echo("nothing was changed; --apply applies it")
