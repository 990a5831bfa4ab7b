"""Envoy as a child.

What runs is the `envoy.yaml` at the top of the checkout, with the addresses of this run and the web page's files.
"""

import datetime
import http.client
import ipaddress
import json
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.embedded import binaries
from server.embedded.errors import StartError
from server.embedded.home import Home, write_private
from server.embedded.ports import LOOPBACK
from server.embedded.processes import Program

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIGURATION = CHECKOUT / "envoy.yaml"
DESCRIPTOR = CHECKOUT / "generated" / "descriptor.binpb"
FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
CERTIFICATE_DAYS = 397
RENEW_DAYS = 30

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""For the page: its own files, and calls to where it came from. It has no inline script and no inline style."""

CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class Endpoint:
    """A serve process: the ports of its public gRPC, of its internal one, where its health is asked, and of files."""

    grpc: int
    internal: int
    media: int


@dataclass(frozen=True)
class Edge:
    """What belongs to a place: everything in which the running Envoy differs from `envoy.yaml`."""

    http: int
    tls: int
    admin: int
    endpoints: Sequence[Endpoint]
    cors_origins: Sequence[str] = ()
    page: Path | None = None
    """The folder with the built web page, served under /live/."""


def program(home: Home, edge: Edge) -> Program:
    """Envoy with the configuration of this run, written into the home."""
    certificate = _certificate_resource(home.envoy)
    file = home.envoy / "envoy.yaml"
    write_private(file, yaml.safe_dump(render(load(), edge, certificate=certificate), sort_keys=False))
    return Program(
        name="envoy",
        command=(
            *(str(binaries.envoy()), "-c", str(file), "--disable-hot-restart"),
            *("--log-level", "error", "--concurrency", str(min(2, os.cpu_count() or 1))),
        ),
        ready=lambda: serves_calls(edge.admin, len(edge.endpoints)),
    )


def load() -> dict[str, Any]:
    """The configuration as it lies in the checkout."""
    for path in (CONFIGURATION, DESCRIPTOR):
        if not path.exists():
            raise StartError(f"{path} is missing: run `switchboard up` from a complete checkout.")
    configuration: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    return configuration


def render(configuration: dict[str, Any], edge: Edge, *, certificate: Path) -> dict[str, Any]:
    """The running configuration, made from one that `load` returned. Both listeners share their filters."""
    configuration["admin"]["address"] = _address(edge.admin)
    resources = configuration["static_resources"]
    for listener in resources["listeners"]:
        listener["address"] = _address({"http": edge.http, "https": edge.tls}[listener["name"]])
    _place_certificate(resources, certificate)
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    _place_descriptor(manager)
    _allow_origins(manager, edge.cors_origins)
    if edge.page:
        _serve_page(manager, edge.page)
    for cluster in resources["clusters"]:
        make = _files if cluster["name"] == "media" else _endpoint
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [make(end) for end in edge.endpoints]}]
    return configuration


def serves_calls(admin: int, processes: int) -> bool:
    """Whether Envoy listens and finds this many healthy serve processes behind it."""
    if _get(admin, "/ready") is None:
        return False
    clusters = json.loads(_get(admin, "/clusters?format=json") or "{}").get("cluster_statuses", [])
    found = {cluster["name"]: cluster.get("host_statuses", []) for cluster in clusters}
    return all(sum(map(_healthy, found.get(name, []))) >= processes for name in ("calls", "streams"))


def _healthy(host: dict[str, Any]) -> bool:
    status = host.get("health_status", {})
    return not (status.get("failed_active_health_check") or status.get("pending_active_hc"))


def _get(port: int, path: str) -> bytes | None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    else:
        return body if answer.status == http.HTTPStatus.OK else None
    finally:
        connection.close()


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    health = {"port_value": endpoint.internal}
    return {"endpoint": {"address": _address(endpoint.grpc), "health_check_config": health}}


def _files(endpoint: Endpoint) -> dict[str, Any]:
    return {"endpoint": {"address": _address(endpoint.media)}}


def _place_certificate(resources: dict[str, Any], certificate: Path) -> None:
    socket = resources["listeners"][1]["filter_chains"][0]["transport_socket"]["typed_config"]
    secret = socket["common_tls_context"]["tls_certificate_sds_secret_configs"][0]
    secret["sds_config"]["path_config_source"]["path"] = str(certificate)


def _transcoders(manager: dict[str, Any]) -> list[dict[str, Any]]:
    name = "envoy.filters.http.grpc_json_transcoder"
    found = [each["typed_config"] for each in manager["http_filters"] if each["name"] == name]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    own = [route.get("typed_per_filter_config", {}).get(name, {}) for route in routes]
    return found + [each for each in own if "proto_descriptor" in each]


def _place_descriptor(manager: dict[str, Any]) -> None:
    for transcoder in _transcoders(manager):
        transcoder["proto_descriptor"] = str(DESCRIPTOR)


def _allow_origins(manager: dict[str, Any], origins: Sequence[str]) -> None:
    host = manager["route_config"]["virtual_hosts"][0]
    policy = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    policy["allow_origin_string_match"] = [{"exact": origin} for origin in origins]


def _serve_page(manager: dict[str, Any], page: Path) -> None:
    """The files under /live/, before the transcoder would refuse their paths; every answer there has the policy."""
    filters = manager["http_filters"]
    at = next(i for i, each in enumerate(filters) if each["name"] == "envoy.filters.http.grpc_json_transcoder")
    files = {
        "@type": f"{FILTERS}.file_server.v3.FileServerConfig",
        "manager_config": {"thread_pool": {"thread_count": 1}},
        "path_mappings": [{"request_path_prefix": "/live/", "file_path_prefix": f"{page}/"}],
        "content_types": CONTENT_TYPES,
        "default_content_type": "application/octet-stream",
        "directory_behaviors": [{"default_file": "index.html"}],
    }
    filters[at:at] = [
        {
            "name": "envoy.filters.http.header_mutation",
            "typed_config": {"@type": f"{FILTERS}.header_mutation.v3.HeaderMutation"},
        },
        {"name": "envoy.filters.http.file_server", "typed_config": files},
    ]
    manager["route_config"]["virtual_hosts"][0]["routes"][:0] = [
        {
            "match": {"prefix": "/live/"},
            "direct_response": {"status": 404},
            "typed_per_filter_config": {"envoy.filters.http.header_mutation": _page_headers()},
        },
    ]


def _page_headers() -> dict[str, Any]:
    headers = {
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }
    action = "OVERWRITE_IF_EXISTS_OR_ADD"
    appended = [{"append": {"header": {"key": k, "value": v}, "append_action": action}} for k, v in headers.items()]
    return {
        "@type": f"{FILTERS}.header_mutation.v3.HeaderMutationPerRoute",
        "mutations": {"response_mutations": appended},
    }


def _certificate_resource(folder: Path) -> Path:
    """The secret that Envoy reads: where the certificate and its key lie."""
    chain, key = folder / "tls.crt", folder / "tls.key"
    if not (key.exists() and _days_left(chain) > RENEW_DAYS):
        _make_certificate(chain, key)
    secret = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "public",
        "tls_certificate": {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}},
    }
    file = folder / "certificate.yaml"
    write_private(file, yaml.safe_dump({"resources": [secret]}))
    return file


def _days_left(chain: Path) -> int:
    try:
        certificate = x509.load_pem_x509_certificate(chain.read_bytes())
    except (FileNotFoundError, ValueError):
        return 0
    return (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days


def _make_certificate(chain: Path, key: Path) -> None:
    """A self-signed certificate for this machine. It is no authority, so trusting it trusts nothing else."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Switchboard on this machine")])
    now = datetime.datetime.now(datetime.UTC)
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in (LOOPBACK, "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key, pem.decode())
    write_private(chain, certificate.public_bytes(serialization.Encoding.PEM).decode())


def trust(home: Home) -> ssl.SSLContext:
    """A TLS context that trusts this home's certificate, for clients on this machine."""
    return ssl.create_default_context(cafile=str(home.envoy / "tls.crt"))
