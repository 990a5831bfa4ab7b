"""A CDN as small as can be, in a process of its own: keeps files by their path alone, asks on each request whether the link is good.

python caching_proxy.py PORT ORIGIN
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import aiohttp
from aiohttp import web


@dataclass
class Kept:
    headers: dict[str, str]
    body: bytes
    until: float


class Proxy:
    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.kept: dict[str, Kept] = {}

    async def handle(self, request: web.Request) -> web.Response:
        async with aiohttp.ClientSession() as session:
            asked = {"X-Original-URI": request.raw_path}
            async with session.get(f"{self.origin}/media/check", headers=asked) as checked:
                if checked.status != 204:
                    return web.Response(status=403, headers={"X-Cache": "DENIED"})
            found = self.kept.get(request.path)
            if found is not None and found.until > time.time():
                return web.Response(body=found.body, headers={**found.headers, "X-Cache": "HIT"})
            async with session.get(self.origin + request.raw_path) as answer:
                body = await answer.read()
                kept = {name: answer.headers[name] for name in ("ETag", "Content-Type", "Cache-Control")}
                directives = dict(part.strip().partition("=")[::2] for part in kept["Cache-Control"].split(","))
                if answer.status == 200 and "public" in directives:
                    self.kept[request.path] = Kept(kept, body, time.time() + int(directives["s-maxage"]))
                return web.Response(status=answer.status, body=body, headers={**kept, "X-Cache": "MISS"})


def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/{path:.*}", Proxy(sys.argv[2]).handle)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
