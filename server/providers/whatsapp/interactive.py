"""Questions and everything else with something to press, as the Cloud API wants it.

Source: Meta's Cloud API documentation, "Interactive reply buttons messages", "Interactive list messages", "Interactive call-to-action
URL button messages", "Location request messages", "Product messages", "Catalog messages", "Flow messages".
"""

from __future__ import annotations

from collections.abc import Sequence

from server.providers.content import (
    Buttons,
    Catalog,
    ContactRequest,
    Flow,
    Interactive,
    Link,
    List,
    ListSection,
    LocationRequest,
    Product,
    ProductList,
)
from server.providers.contract import Json
from server.providers.whatsapp import files


def rendered(content: Interactive) -> dict[str, Json]:
    """The object `interactive` of a message."""
    word, action = _action(content)
    made: dict[str, Json] = {"type": word, "action": action}
    if isinstance(content, Buttons | Link | Flow) and (file := content.header_media) is not None:
        made["header"] = {"type": file.type, file.type: files.rendered(file)}
    elif isinstance(content, Buttons | List | Link | Flow | ProductList) and content.header is not None:
        made["header"] = {"type": "text", "text": content.header}
    if content.body is not None:
        made["body"] = {"text": content.body}
    if not isinstance(content, LocationRequest | ContactRequest) and content.footer is not None:
        made["footer"] = {"text": content.footer}
    return made


def _action(content: Interactive) -> tuple[str, Json]:
    """Meta's word for it, and what is pressed."""
    match content:
        case Buttons():
            return "button", {"buttons": [_button(each.id, each.title) for each in content.buttons]}
        case List():
            return "list", {"button": content.label, "sections": [*map(_rows, content.sections)]}
        case Link():
            return "cta_url", _named("cta_url", {"display_text": content.label, "url": content.url})
        case LocationRequest():
            return "location_request_message", {"name": "send_location"}
        case ContactRequest():
            return "request_contact_info", {"name": "request_contact_info"}
        case Product():
            return "product", _of_catalog(content.catalog_id, "product_retailer_id", content.product_retailer_id)
        case ProductList():
            sections = [products(each.product_retailer_ids, each.title) for each in content.product_sections]
            return "product_list", _of_catalog(content.catalog_id, "sections", sections)
        case Catalog():
            first = content.product_retailer_id
            parameters: Json = {} if first is None else {"thumbnail_product_retailer_id": first}
            return "catalog_message", _named("catalog_message", parameters)
        case Flow():
            return "flow", _named("flow", _form(content))


def _named(name: str, parameters: Json) -> Json:
    return {"name": name, "parameters": parameters}


def _of_catalog(catalog_id: str, name: str, value: Json) -> Json:
    return {"catalog_id": catalog_id, name: value}


def _button(id_: str, title: str) -> Json:
    return {"type": "reply", "reply": {"id": id_, "title": title}}


def _rows(section: ListSection) -> Json:
    rows = [
        {"id": row.id, "title": row.title, **({} if row.description is None else {"description": row.description})}
        for row in section.rows
    ]
    return {"rows": rows} if section.title is None else {"title": section.title, "rows": rows}


def products(ids: Sequence[str], title: str | None) -> Json:
    """A section of a list of products."""
    items = [{"product_retailer_id": product} for product in ids]
    return {"product_items": items} if title is None else {"title": title, "product_items": items}


def _form(content: Flow) -> Json:
    form = content.flow
    payload = {name: value for name, value in (("screen", form.screen), ("data", form.data)) if value is not None}
    return {
        "flow_message_version": "3",
        "flow_cta": content.label,
        "flow_token": form.token,
        "flow_action": "data_exchange" if form.data_exchange else "navigate",
        **({"flow_name": form.flow_name} if form.flow_id is None else {"flow_id": form.flow_id}),
        **({"mode": "draft"} if form.draft else {}),
        **({"flow_action_payload": payload} if payload else {}),
    }
