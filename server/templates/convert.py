"""Templates as the contract shows them. A word of the provider's that the contract does not know is shown as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from switchboard.v1 import template_pb2, template_service_pb2

from server.kit import pb
from server.providers.template import ButtonParameter, Filling, Parameter, TemplateDraft
from server.templates.filling import Rendered
from server.templates.row import TemplateRow

STATUSES: Any = template_pb2.TemplateStatus
CATEGORIES: Any = template_pb2.TemplateCategory
QUALITIES: Any = template_pb2.TemplateQuality
FORMAT = pb.Words(template_pb2.TemplateParameterFormat, "TEMPLATE_PARAMETER_FORMAT_")


def template(row: TemplateRow) -> template_pb2.Template:
    """A template."""
    return template_pb2.Template(
        id=str(row.id),
        business_account_id=row.business_account_id,
        external_id=row.provider_template_id,
        name=row.name,
        language=row.language,
        status=_number(STATUSES, "TEMPLATE_STATUS_", row.status, other="OTHER"),
        provider_status=row.status,
        category=_number(CATEGORIES, "TEMPLATE_CATEGORY_", row.category, other="OTHER"),
        provider_category=row.category,
        quality=_number(QUALITIES, "TEMPLATE_QUALITY_", row.quality, other="UNKNOWN"),
        parameter_format=FORMAT.number(row.parameter_format),
        components=[ParseDict(part, template_pb2.TemplateComponent()) for part in row.components],
        reason=row.reason,
        upcoming_category=row.upcoming_category,
        upcoming_category_time=pb.timestamp(row.upcoming_category_time),
        stale=row.stale,
        gone_time=pb.timestamp(row.gone_time),
        create_time=pb.timestamp(row.create_time),
        update_time=pb.timestamp(row.update_time),
    )


def draft(given: template_service_pb2.CreateTemplateRequest) -> TemplateDraft:
    """A template to create."""
    return TemplateDraft(
        name=given.name,
        language=given.language,
        category=category_word(given.category),
        parameter_format=FORMAT.word(given.parameter_format or template_pb2.TEMPLATE_PARAMETER_FORMAT_POSITIONAL),
        components=components(given.components),
        allow_category_change=given.allow_category_change,
    )


def category_word(given: Any) -> str:
    """The provider's word for a category that can be written."""
    return str(CATEGORIES.Name(given).removeprefix("TEMPLATE_CATEGORY_"))


def components(given: Iterable[template_pb2.TemplateComponent]) -> tuple[Mapping[str, Any], ...]:
    """Components as they are stored, and with what is only written; what is empty is left out."""
    return tuple(MessageToDict(part, preserving_proto_field_name=True) for part in given)


def filling(given: template_pb2.TemplateFilling, *, path: str) -> Filling:
    """What places are filled with; a value that is a message is an object of its fields. path: of the filling. InvalidFields."""
    return Filling(
        header=tuple(map(_parameter, given.header)),
        body=tuple(map(_parameter, given.body)),
        buttons=tuple(_button(item, f"{path}.buttons[{index}]") for index, item in enumerate(given.buttons)),
    )


def _parameter(given: template_pb2.TemplateParameter) -> Parameter:
    kind = str(given.WhichOneof("value"))
    value = getattr(given, kind)
    fields = value if isinstance(value, str) else MessageToDict(value, preserving_proto_field_name=True)
    return Parameter(kind=kind, value=fields, name=given.name if given.HasField("name") else None)


def _button(given: template_pb2.TemplateButtonParameter, path: str) -> ButtonParameter:
    kind = str(given.WhichOneof("value"))
    value = getattr(given, kind)
    if kind == "flow":
        data = {"data": pb.data_object(value.data, field=f"{path}.flow.data")} if value.HasField("data") else {}
        value = {**({"token": value.token} if value.HasField("token") else {}), **data}
    elif not isinstance(value, str):
        value = MessageToDict(value, preserving_proto_field_name=True)
    return ButtonParameter(index=given.index, kind=kind, value=value)


def preview(made: Rendered, *, as_of: str) -> template_service_pb2.PreviewTemplateResponse:
    """What a customer would get."""
    buttons = [ParseDict(button, template_pb2.TemplateButton()) for button in made.buttons]
    return template_service_pb2.PreviewTemplateResponse(
        header=made.header, body=made.body, footer=made.footer, buttons=buttons, as_of=as_of
    )


def _number(enum: Any, prefix: str, word: str, *, other: str) -> Any:
    known = word != "UNSPECIFIED" and prefix + word in enum.keys()  # noqa: SIM118
    return enum.Value(prefix + (word if known else other))
