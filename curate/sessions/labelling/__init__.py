"""Labelling: a session that asks about records one by one, and the review of what people answered differently."""

from curate.sessions.labelling.blind import HIDDEN, blind_of, hides_event, visible_finding, visible_record
from curate.sessions.labelling.prepared import Prepared
from curate.sessions.labelling.queue import Queue, Wish, values_known
from curate.sessions.labelling.reading import spelled_value, turns_of
from curate.sessions.labelling.review import AnswerSide, ReviewItem, Waiting, settle, waiting
from curate.sessions.labelling.session import QUALITY, LabelSession
from curate.sessions.labelling.suggesting import Suggester
from curate.sessions.labelling.tally import FLAG, NOTE, Done

__all__ = [
    "FLAG",
    "HIDDEN",
    "NOTE",
    "QUALITY",
    "LabelSession",
    "Done",
    "ReviewItem",
    "Prepared",
    "Queue",
    "AnswerSide",
    "Suggester",
    "Waiting",
    "Wish",
    "blind_of",
    "hides_event",
    "visible_finding",
    "visible_record",
    "settle",
    "spelled_value",
    "turns_of",
    "values_known",
    "waiting",
]
