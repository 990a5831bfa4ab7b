"""What lists are searched by: the words of conversations, kept by a follower of the log."""

from __future__ import annotations

import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase

# Compared by code points, so that what begins alike stands together.
WORD = Text(collation="C")


class ConversationWord(TenantBase):
    """That a word stands in a message, a note or the contact's name of a conversation.

    Without a foreign key: its check would hold each conversation against whoever sends to it.
    """

    __tablename__ = "conversation_words"
    __table_args__ = (Index("ix_conversation_words_word", "word", "conversation_id"),)

    conversation_id: Mapped[Id]
    word: Mapped[str] = mapped_column(WORD, primary_key=True)


class UnreadText(TenantBase):
    """One row while there are conversations whose words the log no longer tells: those with an id below this one."""

    __tablename__ = "unread_texts"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    below: Mapped[uuid.UUID]
