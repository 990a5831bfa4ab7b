"""Connections cut at every point: before the first byte of a request it is NotSent, after it Ambiguous, always."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_writer import StreamWriter
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from provider_bench import SHORT, Connect, Wire, answer, outgoing, saying, wire

from server.providers.contract import Accepted, Ambiguous, NotSent, Outcome
from server.providers.meta.graph import GraphLimits, _Body

OK = b'{"messages":[{"id":"wamid.x"}]}'
ACCEPTED = Accepted(provider_id="wamid.x")


async def test_a_closed_port_is_not_sent(connect: Connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert await connect(f"http://127.0.0.1:{unused.getsockname()[1]}").send(outgoing()) == NotSent("connect")


async def test_a_name_that_does_not_exist_is_not_sent(connect: Connect) -> None:
    assert await connect("http://graph.invalid").send(outgoing()) in (NotSent("connect"), NotSent("timeout"))


async def test_a_connection_that_is_never_made_is_not_sent(connect: Connect) -> None:
    """A listener with a full backlog: the kernel leaves the next connection waiting."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        found = await connect(f"http://127.0.0.1:{full.getsockname()[1]}").send(outgoing())
    assert found == NotSent("timeout")


async def test_tls_that_fails_is_not_sent(connect: Connect) -> None:
    async def plain(_server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with wire(plain) as server:
        found = await connect(server.url.replace("http:", "https:")).send(outgoing())
    assert found == NotSent("tls")


async def test_waiting_for_a_place_in_the_pool_is_not_sent(connect: Connect) -> None:
    async def silent(server: Wire, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        await asyncio.sleep(60)

    async with wire(silent) as server:
        provider = connect(server.url, limits=replace(SHORT, connect=timedelta(milliseconds=150), connections=1))
        outcomes = await asyncio.gather(provider.send(outgoing()), provider.send(outgoing()))
        assert outcomes == [Ambiguous("timeout"), NotSent("timeout")]
        assert len(server.received) == 1


async def test_a_connection_cut_before_the_request_is_read_is_ambiguous(connect: Connect) -> None:
    """The bytes had left us; nobody can tell how far they came."""

    async def cut(_server: Wire, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Long enough for the request to have left, whichever event loop runs.
        await asyncio.sleep(0.05)
        _reset(writer)

    assert isinstance(await _cut(connect, cut), Ambiguous)


@pytest.mark.parametrize("length", [1, 20, 200])
async def test_a_connection_reset_within_the_request_is_ambiguous(length: int, connect: Connect) -> None:
    async def reset(_server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(length)
        _reset(writer)

    assert isinstance(await _cut(connect, reset), Ambiguous)


async def test_a_connection_cut_after_the_request_is_ambiguous(connect: Connect) -> None:
    async def cut(server: Wire, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await server.request(reader)

    async def reset(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        _reset(writer)

    assert await _cut(connect, cut) == Ambiguous("connection_lost")
    assert await _cut(connect, reset) == Ambiguous("connection_lost")


async def test_an_answer_cut_anywhere_is_ambiguous(connect: Connect) -> None:
    whole = answer(200, OK)
    assert await _cut(connect, saying(whole)) == ACCEPTED
    for length in (1, 9, 15, whole.index(b"\r\n\r\n") + 2, whole.index(b"\r\n\r\n") + 4, len(whole) - 1):
        found = await _cut(connect, saying(whole[:length]))
        assert isinstance(found, Ambiguous), (length, found)


async def test_a_refusal_cut_short_is_ambiguous_too(connect: Connect) -> None:
    assert await _cut(connect, saying(answer(400, b'{"error":{"code":1', length=500))) == Ambiguous("malformed_answer")


async def test_a_chunked_answer_without_its_last_chunk_is_ambiguous(connect: Connect) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(OK), OK)
    assert await _cut(connect, saying(head + b"0\r\n\r\n")) == ACCEPTED
    assert isinstance(await _cut(connect, saying(head)), Ambiguous)


@pytest.mark.parametrize("junk", [b"SSH-2.0-OpenSSH_9.9\r\n\r\n", b"HTTP/9 x\r\n\r\n", b"\x00" * 100, b"\r\n" * 5])
async def test_an_answer_that_is_not_http_is_ambiguous(junk: bytes, connect: Connect) -> None:
    assert isinstance(await _cut(connect, saying(junk)), Ambiguous)


async def test_silence_after_the_request_is_ambiguous(connect: Connect) -> None:
    async def silent(server: Wire, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        await asyncio.sleep(60)

    assert await _cut(connect, silent) == Ambiguous("timeout")


async def test_an_answer_that_never_ends_is_ambiguous(connect: Connect) -> None:
    async def dripping(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(answer(200, b"", length=100_000))
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    assert await _cut(connect, dripping) == Ambiguous("timeout")


async def test_an_answer_without_bound_is_ambiguous(connect: Connect) -> None:
    assert await _cut(connect, saying(answer(200, b" " * 300_000))) == Ambiguous("answer_too_large")


async def test_a_connection_is_used_again_and_a_closed_one_is_replaced_without_a_doubt(connect: Connect) -> None:
    async with wire(saying(answer(200, OK), answer(200, OK), answer(200, OK, "Connection: close"))) as server:
        provider = connect(server.url)
        assert [await provider.send(outgoing()) for _ in range(3)] == [ACCEPTED] * 3
        assert server.connections == 1
    async with wire(saying(answer(200, OK, "Connection: close"))) as server:
        provider = connect(server.url)
        assert await provider.send(outgoing()) == ACCEPTED


async def test_a_connection_the_other_side_closed_while_idle_is_not_written_to(connect: Connect) -> None:
    async def once(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(answer(200, OK))
        await writer.drain()

    async with wire(once) as server:
        provider = connect(server.url)
        for _ in range(3):
            assert await provider.send(outgoing()) == ACCEPTED
            await asyncio.sleep(0.1)
        assert server.connections == 3


async def test_a_farewell_on_an_idle_connection_is_not_taken_for_an_answer(connect: Connect) -> None:
    """Proxies say 408 to idle connections; the next request must neither get that answer nor be lost in doubt."""
    extra = answer(200, b'{"messages":[{"id":"wamid.not-ours"}]}')

    async def talkative(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(answer(200, OK))
        await asyncio.sleep(0.02)
        writer.write(extra)
        await server.request(reader)

    async with wire(talkative) as server:
        provider = connect(server.url)
        assert await provider.send(outgoing()) == ACCEPTED
        await asyncio.sleep(0.3)
        found = await provider.send(outgoing())
        assert isinstance(found, NotSent), found
        assert len(server.received) == 1
        assert await provider.send(outgoing()) == ACCEPTED
        assert (len(server.received), server.connections) == (2, 2)


async def test_idle_connections_are_closed_by_us(connect: Connect) -> None:
    assert GraphLimits().idle == timedelta(seconds=10)
    closed = asyncio.Event()

    async def watching(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(answer(200, OK))
        assert await reader.read() == b""
        closed.set()

    async with wire(watching) as server:
        provider = connect(server.url, limits=replace(SHORT, idle=timedelta(milliseconds=50)))
        assert await provider.send(outgoing()) == ACCEPTED
        async with asyncio.timeout(30):
            await closed.wait()


async def test_a_send_cancelled_before_its_first_byte_writes_nothing(connect: Connect) -> None:
    async with wire(saying(answer(200, OK))) as server:
        provider = connect(server.url)
        for pauses in range(3):
            task = asyncio.create_task(provider.send(outgoing()))
            for _ in range(pauses):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.sleep(0.05)
        assert server.received == []


async def test_a_body_is_never_written_into_a_connection_that_is_closing() -> None:
    """Between the pool and the write a connection can die; aiohttp's own error would leave open whether it was used."""
    async with _raw_connection(b"") as (transport, writer, sent):
        transport.close()
        await _refuses(_Body(b"{}"), writer)
    assert sent == []


async def test_a_body_is_never_written_into_a_connection_that_has_already_spoken() -> None:
    async with _raw_connection(answer(408, b"")) as (_transport, writer, sent):
        await _refuses(_Body(b"{}"), writer)
    assert sent == []


async def test_a_body_that_was_given_up_is_never_written() -> None:
    async with _raw_connection(b"") as (_transport, writer, sent):
        body = _Body(b"{}")
        body.abandon()
        await _refuses(body, writer)
        good = _Body(b"{}")
        await good.write_with_length(writer, None)
        assert good.written
        await asyncio.sleep(0.02)
    assert sent == [b"{}"]


async def test_twenty_sends_at_once_each_get_their_own_answer(connect: Connect) -> None:
    async def echoing(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            opaque = (await server.request(reader)).split(b'biz_opaque_callback_data":"')[1].split(b'"')[0]
            writer.write(answer(200, b'{"messages":[{"id":"wamid.%s"}]}' % opaque))

    async with wire(echoing) as server:
        provider = connect(server.url)
        for _ in range(3):
            outcomes = await asyncio.gather(*(provider.send(outgoing(opaque=f"part-{n}")) for n in range(20)))
            assert outcomes == [Accepted(provider_id=f"wamid.part-{n}") for n in range(20)]
        assert server.connections <= 20


async def test_the_longest_text_goes_out_whole(connect: Connect) -> None:
    async with wire(saying(answer(200, OK))) as server:
        assert await connect(server.url).send(outgoing(text="\U0001f600" * 4096)) == ACCEPTED
    assert server.received[0].count(b"\\ud83d\\ude00") == 4096


async def test_a_certificate_nobody_vouches_for_is_not_sent(connect: Connect, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await connect(f"https://127.0.0.1:{port}").send(outgoing()) == NotSent("tls")


@asynccontextmanager
async def _raw_connection(greeting: bytes) -> AsyncIterator[tuple[asyncio.Transport, StreamWriter, list[bytes]]]:
    """aiohttp's own protocol and writer on a connection to a server that says `greeting` unasked, and what it is sent."""
    sent: list[bytes] = []

    async def script(_server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while got := await reader.read(100):
            sent.append(got)

    loop = asyncio.get_running_loop()
    async with wire(script) as server:
        transport, protocol = await loop.create_connection(lambda: ResponseHandler(loop), "127.0.0.1", server.port)
        protocol.set_response_params()
        await asyncio.sleep(0.02)
        yield transport, StreamWriter(protocol, loop), sent
        transport.abort()
        await asyncio.sleep(0)


async def _refuses(body: _Body, writer: StreamWriter) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await body.write_with_length(writer, None)
    assert not body.written


async def _cut(connect: Connect, script: object) -> Outcome:
    async with wire(script) as server:  # type: ignore[arg-type]
        provider = connect(server.url)
        found = await provider.send(outgoing())
        assert server.connections == 1, "a message must never be sent twice"
    return found


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST, not FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()


def _self_signed(folder: Path) -> Path:
    """A key and its certificate in one file, for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path
