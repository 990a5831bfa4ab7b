"""What a provider can do, as the contract shows it: the same data that messages are checked by."""

from __future__ import annotations

from collections.abc import Iterator

from switchboard.v1 import channel_capabilities_pb2 as shown
from switchboard.v1 import message_pb2, template_pb2

from server.kit import pb
from server.providers.content import ContentLimits
from server.providers.contract import Capabilities
from server.providers.media import FileLimits

CATEGORY = pb.Words(template_pb2.TemplateCategory, "TEMPLATE_CATEGORY_")
FILE_KIND = pb.Words(message_pb2.AttachmentKind, "ATTACHMENT_KIND_")


def capabilities(can: Capabilities, *, per_second: int | None) -> shown.ChannelCapabilities:
    """What a channel can send. per_second: of its account, None where that has no number of its own."""
    text = ContentLimits(characters={"body": can.text_characters})
    return shown.ChannelCapabilities(
        contents=[_content(kind, limits) for kind, limits in (("text", text), *can.contents.items())],
        files=[_file(kind, takes) for kind, takes in can.files.items()],
        reply_window=pb.duration(can.reply_window),
        recipients=sorted(can.address_kinds),
        read_receipts="read" in can.marks,
        typing="typing" in can.marks,
        reactions="reaction" in can.marks,
        reaction_age=pb.duration(can.reaction_age),
        messages_per_second=per_second or can.sends_per_second,
        recipient_interval=pb.duration(can.recipient_pace.every),
        recipient_burst=can.recipient_pace.ahead // can.recipient_pace.every + 1,
    )


def _content(kind: str, limits: ContentLimits) -> shown.ContentCapability:
    return shown.ContentCapability(
        content=kind,
        limits=_limits(kind, limits),
        outside_reply_window=limits.outside_window,
        not_to=[
            shown.RecipientLimit(category=CATEGORY.number(about.lower() or "unspecified"), recipients=sorted(kinds))
            for about, kinds in limits.not_to.items()
        ],
    )


def _limits(kind: str, limits: ContentLimits) -> Iterator[shown.ContentLimit]:
    """A limit of each field that has one, in the order in which they are kept."""
    needed = {name: beside for beside, name in limits.needs.items()}
    flags = sorted(limits.unique | limits.worded | limits.titled)
    for key in dict.fromkeys((*limits.characters, *limits.most, *flags, *needed, *limits.any_of, *limits.files)):
        yield shown.ContentLimit(
            field=f"{kind}.{key}",
            max_characters=limits.characters.get(key),
            max_items=limits.most.get(key),
            unique=key in limits.unique,
            no_emoji=key in limits.worded,
            titled=key in limits.titled,
            needed_with=f"{kind}.{needed[key]}" if key in needed else "",
            any_of=limits.any_of.get(key, ()),
            file_kinds=[FILE_KIND.number(word) for word in limits.files.get(key, ())],
        )


def _file(kind: str, takes: FileLimits) -> shown.FileCapability:
    return shown.FileCapability(
        kind=FILE_KIND.number(kind),
        types=[shown.FileTypeLimit(mime_type=name, max_bytes=most) for name, most in takes.types.items()],
        other_max_bytes=takes.others,
        animated_max_bytes=takes.animated_most,
        captioned=takes.captioned,
        voice_types=takes.voice,
    )
