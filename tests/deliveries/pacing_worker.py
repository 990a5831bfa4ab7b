"""A worker of one tenant until it is killed: `python pacing_worker.py`, told by one line of JSON on stdin."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import uuid
from datetime import timedelta
from typing import Any

import uvloop

from server.messages.dispatching import Dispatcher, Slots
from server.providers.contract import Pace
from server.providers.registry import ProviderSettings, create_providers
from server.settings import load
from server.tenancy.control import open_control
from server.tenancy.tenants import Tenants
from server.tenancy.work import WorkDirectory


async def work(told: dict[str, Any]) -> None:
    """Sends what may be sent."""
    settings = load({"control_dsn": told["control_dsn"], "master_key": told["master_key"]})
    control = await open_control(settings)
    directory = WorkDirectory(control.database)
    providers: dict[str, Any] = dict(create_providers(ProviderSettings(meta_graph_url=told["graph_url"])))
    # The pace of the number is what matters here: recipients take what comes.
    whatsapp, quick = providers["whatsapp"], Pace(every=timedelta(milliseconds=1), ahead=timedelta(seconds=1))
    whatsapp.capabilities = dataclasses.replace(whatsapp.capabilities, recipient_pace=quick)
    dispatcher = Dispatcher(
        uuid.UUID(told["tenant_id"]),
        worker=f"pacing-{os.getpid()}",
        tenants=Tenants(control, directory, pool_size=8),
        directory=directory,
        providers=providers,
        slots=Slots(),
    )
    dispatcher.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(work(json.loads(sys.stdin.readline())))
