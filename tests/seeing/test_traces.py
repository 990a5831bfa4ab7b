"""Traces over the processes: from a webhook to its commit, from a send to the provider and back, in one tree each."""

from __future__ import annotations

import json
import secrets
import urllib.request
from typing import Any

from collector import Collector, Seen

from server.embedded.stack import Stack


def call(stack: Stack, method: str, path: str, body: Any = None, *, key: str = "", **headers: str) -> Any:
    """A REST call with the tenant's key, or another."""
    request = urllib.request.Request(
        stack.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key or stack.dev()['tenant_key']}", **headers},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def customer_writes(stack: Stack, sender: str, text: str) -> None:
    dev = stack.dev()
    body = {"from": sender, "text": text, "phoneNumberId": dev["channels"][0]["phone_number_id"]}
    url = dev["simulator"]["url"] + "/_control/inbound"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def webhook_of(collector: Collector, before: int) -> str:
    """The trace of the first webhook since then whose message was written."""

    def found() -> str | None:
        for span in collector.spans[before:]:
            if span.name.endswith("ReceiveMetaWebhook") and any(
                s.name == "batch.commit" for s in collector.of(span.trace)
            ):
                return span.trace
        return None

    trace: str = collector.until(found)
    return trace


def tree(spans: list[Seen]) -> set[tuple[str, str, str]]:
    """(service, name, name of the parent); a parent of another process that nobody collected is "outside"."""
    names = {span.span: span.name for span in spans}
    return {
        (span.service, span.name.rpartition(".")[2] if "/" in span.name else span.name, _parent(span, names))
        for span in spans
    }


def _parent(span: Seen, names: dict[str, str]) -> str:
    name = names.get(span.parent, "outside" if span.parent else "")
    return name.rpartition(".")[2] if "/" in name else name


def test_a_conversation_is_two_traces_that_know_each_other(traced: Stack, collector: Collector) -> None:
    before = len(collector.spans)
    customer_writes(traced, "4915112345001", "where is my parcel?")
    inbound = webhook_of(collector, before)
    webhook = "WebhookService/ReceiveMetaWebhook"
    expected = {
        ("serve", webhook, ""),
        ("serve", "journal.store", webhook),
        ("serve", "journal.apply", "journal.store"),
        ("serve", "batch.commit", "journal.apply"),
    }
    # A span is sent when it ends, so the outer ones come last.
    collector.until(lambda: tree(collector.of(inbound)) == expected)

    listed = call(traced, "GET", "/v1/conversations?pageSize=200")["conversations"]
    (conversation,) = (row for row in listed if row["lastMessagePreview"] == "where is my parcel?")
    caller, parent = secrets.token_hex(16), secrets.token_hex(8)
    send = {"text": {"body": "it is on its way"}, "lastSeenMessageId": conversation["lastMessageId"]}
    path = f"/v1/conversations/{conversation['id']}/messages"
    call(traced, "POST", path, send, traceparent=f"00-{caller}-{parent}-01")
    method = "MessageService/SendMessage"
    expected = {
        ("serve", method, "outside"),
        ("serve", "batch.commit", method),
        ("work", "delivery", method),
        ("work", "provider.send", "delivery"),
        ("work", "delivery.settle", "delivery"),
    }
    collector.until(lambda: tree(collector.of(caller)) == expected)
    commit = next(span for span in collector.of(caller) if span.name == "batch.commit")
    assert [trace for trace, _ in commit.links] == [inbound]
    assert next(span.parent for span in collector.of(caller) if span.name.endswith("SendMessage")) == parent

    # Its receipts came in webhooks of their own, whose traces tell which send they are about.
    sends = collector.until(lambda: [s for s in collector.spans if s.name == "receipts.apply" and _links_to(s, caller)])
    assert all(span.trace != caller for span in sends)


def _links_to(span: Seen, trace: str) -> bool:
    return trace in {linked for linked, _ in span.links}


def test_what_another_process_applies_goes_on_in_the_same_trace(traced: Stack, collector: Collector) -> None:
    """A disabled tenant's webhook is stored; when it is enabled, the worker applies it."""
    dev, before = traced.dev(), len(collector.spans)
    state = f"/v1/tenants/{dev['tenant']}"
    call(traced, "POST", f"{state}/disable", {}, key=dev["platform_key"])
    customer_writes(traced, "4915112345002", "are you there?")
    collector.until(lambda: any(span.name == "journal.store" for span in collector.spans[before:]))
    call(traced, "POST", f"{state}/enable", {}, key=dev["platform_key"])
    rest = {("work", "journal.apply", "journal.store"), ("work", "batch.commit", "journal.apply")}
    # Late webhooks of other tests are stored here too, so any of those stored since may be the one.
    collector.until(
        lambda: any(rest <= tree(collector.of(s.trace)) for s in collector.spans[before:] if s.name == "journal.store")
    )


def test_lines_of_the_log_name_their_trace(traced: Stack, collector: Collector) -> None:
    lines = [line.partition(b" | ")[2] for line in (traced.home.logs / "work.log").read_bytes().splitlines()]
    settled = [json.loads(line) for line in lines if b"delivery.settled" in line]
    assert settled
    assert {line["trace"] for line in settled} <= {span.trace for span in collector.spans}
