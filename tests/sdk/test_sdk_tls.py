"""https URLs: with a certificate of one's own, and refused without it."""

import ipaddress
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import switchboard_sdk
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sdk_server import Server


def certificate() -> tuple[bytes, bytes]:
    """A key and a certificate that it signed itself, for 127.0.0.1, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "switchboard test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), made.public_bytes(pem)


@pytest.fixture
async def tls() -> AsyncIterator[tuple[str, bytes]]:
    """The URL of a server that speaks TLS only, and the certificate to trust."""
    key, chain = certificate()
    grpc_server = grpc.aio.server()
    Server().register(grpc_server)
    port = grpc_server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    await grpc_server.start()
    yield f"https://127.0.0.1:{port}", chain
    await grpc_server.stop(grace=None)


async def test_a_trusted_certificate_is_enough(tls):
    url, chain = tls
    async with switchboard_sdk.connect(url, token="t", root_certificates=chain) as client:
        answer = await client.conversations.get_conversation(conversation_id="k1")
    assert answer.conversation.id == "k1"


async def test_an_unknown_certificate_is_refused(tls):
    url, _ = tls
    async with switchboard_sdk.connect(url, token="t", retries=0) as client:
        with pytest.raises(switchboard_sdk.UnavailableError):
            await client.conversations.get_conversation(conversation_id="k1")
