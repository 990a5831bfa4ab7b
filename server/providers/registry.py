"""Which providers there are. Read by the composition roots alone; a new provider is one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.kit.egress import Egress
from server.providers.api.callback import Callbacks
from server.providers.api.provider import Api
from server.providers.contract import Provider
from server.providers.meta.graph import GraphClient, GraphLimits
from server.providers.meta.media import MediaClient
from server.providers.whatsapp import wamid
from server.providers.whatsapp.provider import WhatsApp


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """meta_graph_url: scheme and host of the Graph API, such as https://graph.facebook.com, or the simulator's. callback_networks:
    as of Settings.
    """

    meta_graph_url: str
    meta_limits: GraphLimits | None = None
    callback_networks: tuple[str, ...] = ()


def _whatsapp(settings: ProviderSettings) -> Provider:
    graph = GraphClient(settings.meta_graph_url, limits=settings.meta_limits)
    return WhatsApp(graph, MediaClient(graph, own=settings.meta_graph_url))


def _api(settings: ProviderSettings) -> Provider:
    return Api(Callbacks(Egress(settings.callback_networks)))


# By provider: what two ids of one message have in common.
TOKENS: Mapping[str, Callable[[str], str | None]] = {"whatsapp": wamid.token}

# By the lower-case word of the contract's Provider enum.
FACTORIES: Mapping[str, Callable[[ProviderSettings], Provider]] = {
    "whatsapp": _whatsapp,
    "api": _api,
}


def create_providers(settings: ProviderSettings) -> dict[str, Provider]:
    """All of them, by name. They connect at first use, inside the running loop; close each at the end."""
    return {name: create(settings) for name, create in FACTORIES.items()}
