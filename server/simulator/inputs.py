"""What the bodies of the control API have in common: camelCase, nothing unknown, addresses of customers."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from server.simulator.addresses import is_bsuid, is_phone


def _address(text: str) -> str:
    if not is_phone(text) and not is_bsuid(text):
        raise ValueError("a phone number with country code (7 to 15 digits) or a business-scoped user id is needed")
    return text


def _user_id(text: str) -> str:
    if not is_bsuid(text):
        raise ValueError("a business-scoped user id is needed")
    return text


Address = Annotated[str, AfterValidator(_address)]
UserId = Annotated[str, AfterValidator(_user_id)]
UnixSeconds = Annotated[int, Field(ge=0, le=10_000_000_000)]


class Input(BaseModel):
    """A body in camelCase; unknown fields are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, alias_generator=to_camel, populate_by_name=True
    )
