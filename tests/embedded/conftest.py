from collections.abc import AsyncIterator

import aiohttp
import pytest
from embedded_front import Front, start_envoy, wait_for_envoy
from embedded_upstream import Upstream, status
from google.rpc import status_pb2

from server.embedded.home import Home


@pytest.fixture(scope="session")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    home = Home(tmp_path_factory.mktemp("edge") / "home")
    page = tmp_path_factory.mktemp("page")
    (page / "index.html").write_text("<!doctype html><title>Inbox</title>")
    (page / "inbox.js").write_text("export {};\n")
    upstream = Upstream()
    endpoint = await upstream.start()
    with home.owned():
        edge, child = start_envoy(home, endpoint, page)
        try:
            await wait_for_envoy(child)
            async with aiohttp.ClientSession() as client:
                yield Front(edge, child, upstream, client)
        finally:
            child.close()
            await upstream.stop()


@pytest.fixture
def clean(front: Front) -> Front:
    """The edge with nothing seen yet and no refusal set."""
    front.upstream.seen.clear()
    front.upstream.sizes.clear()
    front.upstream.refusal = None
    return front


@pytest.fixture
def refused() -> status_pb2.Status:
    return status(9, "The conversation is archived.", "CONVERSATION_ARCHIVED")
