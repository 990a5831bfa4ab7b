"""The simulator's composition root: one aiohttp server with the Graph API's side and the control API."""

import asyncio
import ipaddress
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from aiohttp import web

from server.simulator.business import BusinessApi
from server.simulator.config import SimulatorConfig, load_config
from server.simulator.control import ControlApi
from server.simulator.graph import GraphApi
from server.simulator.logs import configure_logging
from server.simulator.simulator import Simulator
from server.simulator.template_api import TemplateApi

log = structlog.get_logger("simulator")

# A control call may carry as much as Meta's largest webhook (3 MB).
BODY_MOST = 4 * 1024 * 1024


def create_app(config: SimulatorConfig) -> web.Application:
    """The application, to be run by a test's server or by `run`; its webhooks go out as long as it runs."""
    simulator = Simulator(config)

    async def running(_app: web.Application) -> AsyncIterator[None]:
        await simulator.open()
        yield
        await simulator.close()

    async def stopping(_app: web.Application) -> None:
        # Requests that a fault lets hang would hold the end up.
        simulator.stopping.set()

    app = web.Application(client_max_size=BODY_MOST)
    app.on_shutdown.append(stopping)
    app.add_routes(ControlApi(simulator).routes())
    graph = GraphApi(simulator)
    app.add_routes(BusinessApi(simulator, other=graph.media).routes())
    app.add_routes(TemplateApi(simulator, other=graph.media).routes())
    app.add_routes(graph.routes())
    app.cleanup_ctx.append(running)
    return app


async def run(*, listen: str, config_path: Path) -> None:
    """Serves on `listen` (`host:port`, loopback, port 0 for a free one) until SIGTERM or SIGINT.

    Raises ValueError for an address that is not loopback, ConfigError for a configuration that does not fit.
    """
    host, port = loopback(listen)
    config = load_config(config_path)
    configure_logging()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # aiohttp's access log would print the phone number ids and, for odd requests, what was sent.
    runner = web.AppRunner(create_app(config), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        log.info("listening", addresses=[list(address[:2]) for address in runner.addresses])
        await stop.wait()
    finally:
        await runner.cleanup()
    log.info("stopped")


def loopback(listen: str) -> tuple[str, int]:
    """`host:port`, refused unless the host is loopback: the control API asks nobody for a token."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if host != "localhost" and not (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        raise ValueError(f"the simulator listens on loopback only, not on {host or 'every address'}")
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ValueError(f"{listen} is not host:port")
    return host, int(port)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
