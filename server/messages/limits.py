"""Whether a provider takes a message, field by field, before it is asked: pure functions over its Capabilities."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from emoji import emoji_count

from server.messages.refusals import Excess, ProviderLimit
from server.providers.content import AddressKind, Content, ContentLimits, FilledTemplate, QuickReplies
from server.providers.contract import Capabilities


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A text, or a list or an object as a whole: where it stands, and the same without indexes, by which limits are kept."""

    path: str
    key: str
    value: Any


# What stands on the button of a list that was not asked for as one: a sign, since nobody said in which language.
LIST_LABEL = "\u2630"


def fitted(capabilities: Capabilities, text: str | None, content: Content | QuickReplies | None) -> Content | None:
    """What is sent: the content itself, and quick replies in the first form that they fit into. ProviderLimit."""
    if not isinstance(content, QuickReplies):
        check(capabilities, text, content)
        return content
    forms = [
        form for form in (content.as_buttons(), content.as_list(label=LIST_LABEL)) if form.kind in capabilities.contents
    ]
    found = [Excess("text.quick_replies", "the channel cannot send this")]
    for form in forms:
        found = [_of_quick_replies(excess) for excess in excesses(capabilities.contents[form.kind], form)]
        if not found:
            return form
    raise ProviderLimit(*found)


def _of_quick_replies(excess: Excess) -> Excess:
    """The same where the caller wrote it."""
    path = re.sub(r"^(buttons\.buttons|list\.sections\[0\]\.rows)", "text.quick_replies", excess.field)
    return dataclasses.replace(excess, field=re.sub(r"^(buttons|list)\.", "text.", path))


def check(capabilities: Capabilities, text: str | None, content: Content | None) -> None:
    """ProviderLimit, which names every field that is too much. text: of a message without content."""
    if content is None:
        if len(text or "") > capabilities.text_characters:
            raise ProviderLimit(_too_long("text.body", capabilities.text_characters))
        return
    limits = capabilities.contents.get(content.kind)
    if limits is None:
        raise ProviderLimit(Excess(content.kind, "the channel cannot send this"))
    found = [*excesses(limits, content)]
    if found:
        raise ProviderLimit(*found)


def not_to(capabilities: Capabilities, content: Content | QuickReplies | None) -> Set[AddressKind]:
    """Kinds of addresses that this cannot be sent to, whatever is in it."""
    if content is None:
        return frozenset()
    limits = capabilities.contents.get("buttons" if isinstance(content, QuickReplies) else content.kind)
    about = content.category if isinstance(content, FilledTemplate) else ""
    return frozenset() if limits is None else limits.not_to.get(about, frozenset())


def check_recipient(
    capabilities: Capabilities, content: Content | QuickReplies | None, kind: AddressKind | None
) -> None:
    """ProviderLimit, where this cannot be sent to an address of this kind. None: nobody asked, or nothing is known."""
    refused = not_to(capabilities, content)
    if content is not None and kind in refused:
        others = ", ".join(sorted(capabilities.address_kinds - refused))
        asking = "; contact_request asks for it" if others == "wa_id" and kind != "group" else ""
        found = f"the channel sends this to {others} alone, what is known here is {kind}{asking}"
        raise ProviderLimit(Excess("text.quick_replies" if isinstance(content, QuickReplies) else content.kind, found))


def excesses(limits: ContentLimits, content: Content) -> Iterator[Excess]:
    """What of a content is beyond the limits of its kind, in the order of its fields."""
    seen: set[tuple[str, Any]] = set()
    counted: Counter[str] = Counter()
    for leaf in _leaves(content, content.kind, ""):
        if isinstance(leaf.value, str):
            yield from _text(limits, leaf, leaf.value, seen)
        elif isinstance(leaf.value, tuple):
            counted[leaf.key] += len(leaf.value)
            yield from _items(limits, leaf, leaf.value, counted[leaf.key])
        else:
            yield from _object(limits, leaf)


def _text(limits: ContentLimits, leaf: _Leaf, text: str, seen: set[tuple[str, Any]]) -> Iterator[Excess]:
    most = limits.characters.get(leaf.key)
    if most is not None and len(text) > most:
        yield _too_long(leaf.path, most)
    if leaf.key in limits.unique:
        if (leaf.key, text) in seen:
            yield Excess(leaf.path, "must be unique in the message")
        seen.add((leaf.key, text))
    if leaf.key in limits.worded and emoji_count(text):
        yield Excess(leaf.path, "must be without emoji")


def _items(limits: ContentLimits, leaf: _Leaf, items: Sequence[Any], in_all: int) -> Iterator[Excess]:
    most = limits.most.get(leaf.key)
    if most is not None and in_all > most:
        yield Excess(leaf.path, f"the channel takes at most {most} in a message", most)
    if leaf.key in limits.titled and len(items) > 1:
        for index, item in enumerate(items):
            if item.title is None:
                yield Excess(f"{leaf.path}[{index}].title", "is needed where there are several")


def _object(limits: ContentLimits, leaf: _Leaf) -> Iterator[Excess]:
    for name, needed in limits.needs.items():
        if getattr(leaf.value, name, None) is not None and getattr(leaf.value, needed) is None:
            yield Excess(f"{leaf.path}.{needed}", f"is needed beside {name}")
    names = limits.any_of.get(leaf.key, ())
    if names and all(getattr(leaf.value, name) is None for name in names):
        yield Excess(leaf.path, f"needs one of {', '.join(names)}")


def _leaves(value: Any, path: str, key: str) -> Iterator[_Leaf]:
    yield _Leaf(path, key, value)
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        name = field.name if key == "" else f"{key}.{field.name}"
        if isinstance(found, str) and field.name != "kind":
            yield _Leaf(f"{path}.{field.name}", name, found)
        elif isinstance(found, tuple):
            yield _Leaf(f"{path}.{field.name}", name, found)
            for index, item in enumerate(found):
                if not isinstance(item, str):
                    yield from _leaves(item, f"{path}.{field.name}[{index}]", name)
        elif dataclasses.is_dataclass(found):
            yield from _leaves(found, f"{path}.{field.name}", name)


def _too_long(path: str, most: int) -> Excess:
    return Excess(path, f"the channel takes at most {most} characters", most)
