"""The whole stack as one object: `up` runs it for a person, the tests run it for themselves."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from server.embedded import binaries, children, devfile, envoy, leftovers, ports, postgres, seeding, valkey
from server.embedded.envoy import CHECKOUT, Edge, Endpoint
from server.embedded.errors import StartError
from server.embedded.home import Home, write_private
from server.embedded.ports import LOOPBACK
from server.embedded.processes import Child, Program, Spare
from server.embedded.supervisor import READY_WITHIN, Supervisor
from server.embedded.tokens import agent_tokens
from server.settings import PREFIX
from server.settings import load as load_settings

PAGE = CHECKOUT / "clients" / "web" / "live" / "dist"
RENEW_EVERY = timedelta(minutes=4)
"""A token lives 15 minutes, so one in dev.json is always good for more than 5."""
RENEW_AGAIN = timedelta(seconds=5)
RECEIPTS: Mapping[str, int | None] = {"sent_ms": 20, "delivered_ms": 60, "read_ms": 200}
WORK_CONNECTIONS = "60"
"""Of the 300 that Postgres takes; a serve process has 100."""
STOP_ORDER = ("simulator", "envoy", "work", "serve", "valkey", "postgres")


@dataclass(frozen=True)
class Options:
    """What may differ from run to run. A port of 0 means: any that is free, kept for the next start."""

    home: Path
    http_port: int = 0
    tls_port: int = 0
    processes: int = 2
    """How many serve processes."""
    workers: int = 1
    cors_origins: Sequence[str] = ()
    receipts: Mapping[str, int | None] | None = field(default_factory=lambda: RECEIPTS)
    """The simulator's receipts, in milliseconds after the send; None: it sends none."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More settings for the children, over those made here."""
    page: Path | None = PAGE
    spares: bool = False
    """Whether for each server process one is kept that has imported everything and takes its place when it dies."""


class Stack:
    """Postgres, Valkey, the simulator, serve, work and Envoy. Start it from a thread that lives as long as the stack.

    Processes are named `postgres`, `valkey`, `simulator`, `serve-1`, `serve-2`, …, `work`, `envoy`; several workers `work-1`,
    `work-2`, ….
    """

    def __init__(
        self,
        options: Options,
        *,
        tell: Callable[[str, float], None] = lambda _name, _seconds: None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """tell: of each step of the start, with its seconds. say: of what happens afterwards, a line each."""
        self.options = options
        self.home = Home(options.home)
        self._tell = tell
        self._held = ExitStack()
        self._children: dict[str, Child] = {}
        self._spares: dict[str, Spare] = {}
        self._ports: dict[str, int] = {}
        self._installation: devfile.Installation | None = None
        self._tokens: dict[str, str] = {}
        self._renewed_at = 0.0
        self._renewed = False
        self._supervisor = Supervisor(launch=self._launch, say=say, logs=self.home.logs)

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything in order and write dev.json. `StartError` says why not; nothing is left running then."""
        with self._all_or_nothing():
            self._start_databases()
            self._start_rest()
        self._keep_spares()

    def start_databases(self) -> None:
        """Start Postgres and Valkey alone, both empty in a new home: for tests of what lies right above them."""
        with self._all_or_nothing():
            self._start_databases()

    def stop(self) -> None:
        """Stop everything: first who calls, last what holds the data. Removes dev.json and frees the home."""
        if self._ports:
            self.home.dev.unlink(missing_ok=True)
        for spare in self._spares.values():
            spare.close()
        for kind in STOP_ORDER:
            # Processes of one kind drain side by side.
            same = [child for name, child in self._children.items() if _kind(name) == kind]
            stopping = [threading.Thread(target=child.close) for child in same]
            for thread in stopping:
                thread.start()
            for thread in stopping:
                thread.join()
        if self._children:
            self.home.children.unlink(missing_ok=True)
        self._children.clear()
        self._held.close()

    def pid(self, name: str) -> int:
        """The process id of a child."""
        return self._children[name].pid

    def spare_pid(self, name: str) -> int:
        """The process that waits to take a server's place; 0 where there is none."""
        return self._spares[name].pid if name in self._spares else 0

    def names(self) -> list[str]:
        """The names of all children, in the order of their start."""
        return list(self._children)

    def kill(self, name: str) -> None:
        """SIGKILL a child, and wait until it is gone."""
        self._children[name].kill()

    def terminate(self, name: str) -> None:
        """Ask a child to end, and wait for it."""
        self._children[name].stop()

    def restart(self, name: str) -> None:
        """Stop a child if it runs, start it on the same ports, wait until it is ready and used, write dev.json anew."""
        child = self._children[name]
        child.stop()
        self._launch(child)
        child.wait_ready(within=READY_WITHIN)
        self._supervisor.forget(name)
        calls = [child for child in self._children.values() if _kind(child.name) in ("serve", "envoy")]
        if _kind(name) == "serve" and all(child.running for child in calls):
            # Envoy asks a process that was away once a second, and gives it calls from then on; it is ready with all of them.
            self._ready("envoy")
        self.write_dev_file()

    def resurrect(self) -> list[str]:
        """Start again what died; the names of what was found dead. To be called again and again by the starting thread."""
        before = self._pids()
        died = self._supervisor.look(self._children.values())
        self._keep_spares()
        if self._pids() != before:
            self.write_dev_file()
        return died

    def restarts(self, name: str) -> int:
        """How often a child died and was started again."""
        return self._supervisor.restarts(name)

    @property
    def url(self) -> str:
        """The public address: gRPC, grpc-web and REST."""
        return f"http://{LOOPBACK}:{self._ports['http']}"

    @property
    def tls_url(self) -> str:
        """The public address over TLS."""
        return f"https://{LOOPBACK}:{self._ports['tls']}"

    def port(self, name: str) -> int:
        """A port by name: a child's name (`envoy` is its admin port), `http`, `tls`, `serve-1-internal`."""
        return self._ports[name]

    def valkey_url(self) -> str:
        """A connection string for Valkey."""
        return valkey.url(self._ports["valkey"], self.home.load_secrets().valkey_password)

    def addresses(self) -> devfile.Addresses:
        """Where everything is."""
        return devfile.Addresses(
            url=self.url,
            tls_url=self.tls_url,
            tls_certificate=self.home.envoy / "tls.crt",
            simulator=f"http://{LOOPBACK}:{self._ports['simulator']}",
            control_dsn=self._control_dsn(),
            valkey=self.valkey_url(),
            envoy_admin=f"http://{LOOPBACK}:{self._ports['envoy']}",
        )

    def dev(self) -> dict[str, Any]:
        """What dev.json holds."""
        return devfile.contents(self._installed(), self._tokens, self.addresses(), self._processes())

    def write_dev_file(self) -> None:
        """Write dev.json as things are now, once the stack has been ready."""
        if self._tokens:
            devfile.write(self.home.dev, self.dev())

    def renew_tokens(self) -> None:
        """Give every agent in dev.json a new token when it is time; try again soon where no server answers."""
        wait = RENEW_EVERY if self._renewed else RENEW_AGAIN
        if self._tokens and time.monotonic() < self._renewed_at + wait.total_seconds():
            return
        agents = [(agent.id, tenant.key) for tenant in self._installed().tenants for agent in tenant.agents]
        tokens = agent_tokens(self._ports["http"], agents)
        self._renewed_at, self._renewed = time.monotonic(), bool(tokens)
        if tokens:
            self._tokens = tokens
            self.write_dev_file()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        with ExitStack() as undo:
            undo.callback(self.stop)
            yield
            undo.pop_all()

    def _start_databases(self) -> None:
        binaries.check_machine()
        self._held.enter_context(self.home.owned())
        # That of a run that was killed names processes that are gone, at addresses that are free for anybody.
        self.home.dev.unlink(missing_ok=True)
        leftovers.clear(self.home.children)
        self._ports = self._choose_ports()
        prefix = postgres.wrapper()
        made = self.home.load_secrets()
        with self._timed("postgres"):
            postgres.initialise(self.home, password=made.postgres_password, prefix=prefix)
            self._add(postgres.program(self.home, port=self._ports["postgres"], prefix=prefix))
            self._ready("postgres")
        with self._timed("valkey"):
            self._add(valkey.program(self.home, port=self._ports["valkey"], password=made.valkey_password))
            self._ready("valkey")

    def _start_rest(self) -> None:
        with self._timed("tenants"):
            self._installation = self._install()
        self._start_ours()
        with self._timed("envoy"):
            self._add(envoy.program(self.home, self._edge()))
            self._ready("envoy")
        self.renew_tokens()
        if not self._tokens:
            raise StartError(f"No server answers through Envoy at {self.url}: see {self.home.logs}.")

    def _start_ours(self) -> None:
        """Side by side: each spends a second importing."""
        environment = self._environment()
        began = time.monotonic()
        self._write_simulator_file()
        file = self.home.simulator
        self._add(children.simulator(port=self._ports["simulator"], file=file, environment=environment))
        for name, end in self._endpoints().items():
            if self.options.spares:
                self._spares[name] = children.spare_serve(environment)
            more = {**environment, **self._metrics(name)}
            made = children.serve(name, port=end.grpc, internal=end.internal, media=end.media, environment=more)
            self._add(made)
        few = {"SWITCHBOARD_MAX_CONNECTIONS": WORK_CONNECTIONS, **environment}
        for name in self._workers():
            self._add(children.work(name, internal=self._ports[name], environment={**few, **self._metrics(name)}))
        for name in ("simulator", *self._endpoints(), *self._workers()):
            self._ready(name)
            self._tell(name, time.monotonic() - began)

    def _install(self) -> devfile.Installation:
        self.home.make_master_key()
        accounts = seeding.load_accounts(self.home.accounts)
        given = {name.removeprefix(PREFIX).lower(): value for name, value in self._environment().items()}
        return seeding.install(load_settings(given), server_dsn=self.server_dsn(), accounts=accounts)

    def _write_simulator_file(self) -> None:
        config = seeding.simulator_config(
            seeding.load_accounts(self.home.accounts),
            self._installed().meta_app,
            url=self.url,
            state=self.home.simulator_state,
            receipts=self.options.receipts,
        )
        write_private(self.home.simulator, json.dumps(config))

    def server_dsn(self, database: str = "postgres") -> str:
        """A connection string for the superuser of the Postgres server."""
        return postgres.dsn(self._ports["postgres"], self.home.load_secrets().postgres_password, database=database)

    def _control_dsn(self) -> str:
        return self.server_dsn(seeding.CONTROL_DATABASE)

    def _choose_ports(self) -> dict[str, int]:
        serve = [f"serve-{number}" for number in range(1, self.options.processes + 1)]
        internal = [f"{name}-{what}" for name in serve for what in ("internal", "media")]
        metrics = [f"{name}-metrics" for name in (*serve, *self._workers())]
        names = ["postgres", "valkey", "simulator", "envoy", *self._workers(), *serve, *internal, *metrics]
        fixed = {"http": self.options.http_port, "tls": self.options.tls_port}
        return ports.choose(self.home.ports, names, fixed=fixed)

    def _endpoints(self) -> dict[str, Endpoint]:
        names = [f"serve-{number}" for number in range(1, self.options.processes + 1)]
        return {
            name: Endpoint(
                grpc=self._ports[name], internal=self._ports[f"{name}-internal"], media=self._ports[f"{name}-media"]
            )
            for name in names
        }

    def _workers(self) -> list[str]:
        count = self.options.workers
        return ["work"] if count == 1 else [f"work-{number}" for number in range(1, count + 1)]

    def _metrics(self, name: str) -> dict[str, str]:
        """Where a process of ours shows its metrics."""
        return {"SWITCHBOARD_METRICS_LISTEN": f"{LOOPBACK}:{self._ports[f'{name}-metrics']}"}

    def _edge(self) -> Edge:
        page = self.options.page
        return Edge(
            http=self._ports["http"],
            tls=self._ports["tls"],
            admin=self._ports["envoy"],
            endpoints=tuple(self._endpoints().values()),
            cors_origins=self.options.cors_origins,
            page=page if page and (page / "index.html").exists() else None,
        )

    def _environment(self) -> dict[str, str]:
        """The settings of every child. The master key goes by a file: /proc shows an environment."""
        return {
            "SWITCHBOARD_HOME": str(self.home.path),
            "SWITCHBOARD_ENV": "development",
            "SWITCHBOARD_CONTROL_DSN": self._control_dsn(),
            "SWITCHBOARD_VALKEY_URL": self.valkey_url(),
            "SWITCHBOARD_MASTER_KEY_FILE": str(self.home.master_key),
            "SWITCHBOARD_META_GRAPH_URL": f"http://{LOOPBACK}:{self._ports['simulator']}",
            "SWITCHBOARD_MEDIA_BASE_URL": self.url,
            "SWITCHBOARD_HTTP_PORT": str(self._ports["http"]),
            "SWITCHBOARD_TLS_PORT": str(self._ports["tls"]),
            **self.options.environment,
        }

    def _installed(self) -> devfile.Installation:
        if self._installation is None:
            raise StartError("The stack has not been started.")
        return self._installation

    def _processes(self) -> list[devfile.Process]:
        return [self._process(name, child.pid) for name, child in self._children.items()]

    def _process(self, name: str, pid: int) -> devfile.Process:
        """A child and its addresses: a serve process calls and answers on two ports, a worker on one."""
        inside = f"{name}-internal" if f"{name}-internal" in self._ports else name
        ours = f"{name}-metrics" in self._ports
        return devfile.Process(
            name,
            pid,
            grpc=f"{LOOPBACK}:{self._ports[name]}" if inside != name else None,
            internal=f"{LOOPBACK}:{self._ports[inside]}" if ours else None,
            metrics=f"{LOOPBACK}:{self._ports[f'{name}-metrics']}" if ours else None,
        )

    def _add(self, program: Program) -> None:
        self._children[program.name] = Child(program, logs=self.home.logs, spare=self._spares.get(program.name))
        self._launch(self._children[program.name])

    def _keep_spares(self) -> None:
        for spare in self._spares.values():
            spare.keep()

    def _launch(self, child: Child) -> None:
        child.start()
        leftovers.record(self.home.children, self._pids())

    def _pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}

    def _ready(self, name: str) -> None:
        self._children[name].wait_ready(within=READY_WITHIN)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._tell(name, time.monotonic() - began)


def _kind(name: str) -> str:
    """`serve-2` is a `serve`, `work-1` a `work`."""
    return name.partition("-")[0]
