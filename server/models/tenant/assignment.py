"""How conversations find an agent, what each agent takes and holds, and the ledger of assignments."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Interval,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

TYPES = ("manual", "round_robin", "load_based", "availability")
AVAILABILITIES = ("online", "busy", "away", "offline")


class ConversationAssignment(TenantBase):
    """That an agent, a team, or both had a conversation from start_time to end_time. One row of a conversation is open.

    from_*: who had it before. decision: why a policy chose this agent, with the candidates. waiting_since: of the customer, when
    it started.
    """

    __tablename__ = "conversation_assignments"
    __table_args__ = (
        words("type", TYPES),
        words("end_reason", ("reassigned", "unassigned", "reclaimed", "agent_disabled")),
        CheckConstraint("agent_id IS NOT NULL OR team_id IS NOT NULL", name="target"),
        CheckConstraint("end_time >= start_time", name="end_time"),
        Index(
            "uq_conversation_assignments_open",
            "conversation_id",
            unique=True,
            postgresql_where=text("end_time IS NULL"),
        ),
        Index("ix_conversation_assignments_conversation", "conversation_id", text("id DESC")),
        Index("ix_conversation_assignments_agent", "agent_id", text("start_time DESC")),
    )

    id: Mapped[Id]
    conversation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("conversations.id"))
    agent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agents.id"))
    team_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("teams.id"))
    type: Mapped[Word]
    reason: Mapped[Word | None]
    assigned_by_kind: Mapped[int] = mapped_column(SmallInteger)
    assigned_by_id: Mapped[uuid.UUID | None]
    start_time: Mapped[Time]
    end_time: Mapped[Time | None]
    from_agent_id: Mapped[uuid.UUID | None]
    from_team_id: Mapped[uuid.UUID | None]
    end_reason: Mapped[Word | None]
    policy_id: Mapped[uuid.UUID | None]
    waiting_since: Mapped[Time | None]
    decision: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    ended_by_kind: Mapped[int | None] = mapped_column(SmallInteger)
    ended_by_id: Mapped[uuid.UUID | None]
    end_text: Mapped[Word | None]


class AssignmentPolicy(TenantBase):
    """How conversations of a channel or of a team find an agent. Weights, in percent of a unit, are a channel's."""

    __tablename__ = "assignment_policies"
    __table_args__ = (
        UniqueConstraint("channel_id"),
        UniqueConstraint("team_id"),
        CheckConstraint("(channel_id IS NULL) <> (team_id IS NULL)", name="target"),
        words("strategy", TYPES),
        words("queue_order", ("longest_waiting", "priority")),
        CheckConstraint("(fairness_most IS NULL) = (fairness_window IS NULL) AND fairness_most > 0", name="fairness"),
        CheckConstraint(
            "(weight IS NULL) = (channel_id IS NULL) AND (waiting_weight IS NULL) = (channel_id IS NULL)"
            " AND weight > 0 AND waiting_weight >= 0",
            name="weights",
        ),
    )

    id: Mapped[Id]
    channel_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"))
    team_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    strategy: Mapped[Word]
    required_skills: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    fairness_most: Mapped[int | None]
    fairness_window: Mapped[timedelta | None] = mapped_column(Interval)
    sticky: Mapped[bool] = mapped_column(server_default=text("false"))
    reclaim_after: Mapped[timedelta | None] = mapped_column(Interval)
    queue_order: Mapped[Word] = mapped_column(server_default=text("'longest_waiting'"))
    weight: Mapped[int | None]
    waiting_weight: Mapped[int | None]
    create_time: Mapped[Time]
    update_time: Mapped[Time]


class AgentLoad(TenantBase):
    """What an agent takes and holds. Made with the agent, by the database.

    capacity is in units, load in percent of one. availability is what the agent set; while lost_time is set its heartbeats are
    missing, and it counts as offline. idle_since: when it last got or gave up a conversation, or came online.
    """

    __tablename__ = "agent_loads"
    __table_args__ = (
        CheckConstraint("capacity >= 0", name="capacity"),
        CheckConstraint("load >= 0 AND conversations >= 0", name="load"),
        words("availability", AVAILABILITIES),
        CheckConstraint("lost_time IS NULL OR availability IN ('online', 'busy', 'away')", name="lost_time"),
    )

    agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True)
    capacity: Mapped[int] = mapped_column(server_default=text("10"))
    skills: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    load: Mapped[int] = mapped_column(server_default=text("0"))
    conversations: Mapped[int] = mapped_column(server_default=text("0"))
    availability: Mapped[Word] = mapped_column(server_default=text("'offline'"))
    availability_time: Mapped[Time] = mapped_column(server_default=text("now()"))
    heartbeat_time: Mapped[Time] = mapped_column(server_default=text("now()"))
    lost_time: Mapped[Time | None]
    idle_since: Mapped[Time] = mapped_column(server_default=text("now()"))


class AssignmentTurn(TenantBase):
    """When an agent last got a conversation of a policy."""

    __tablename__ = "assignment_turns"

    policy_id: Mapped[Id] = mapped_column(ForeignKey("assignment_policies.id", ondelete="CASCADE"), primary_key=True)
    agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True)
    last_time: Mapped[Time]


class AssignmentQueue(TenantBase):
    """One row. Everything up to the event `generation` was looked at; look_time: when to look though nothing happens."""

    __tablename__ = "assignment_queue"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(BigInteger)
    look_time: Mapped[Time | None]
