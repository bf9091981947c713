"""Labelling in a workshop: a desk at which records are answered, and the review of what people answered differently."""

from curate.workshop.labelling.blind import Blind, blind_of, hides_event
from curate.workshop.labelling.desk import FLAG, NOTE, QUALITY, Desk, Done, last_done
from curate.workshop.labelling.queue import Queue, Wish
from curate.workshop.labelling.reading import spelled_value, turns_of
from curate.workshop.labelling.review import Item, Side, Waiting, settle, waiting
from curate.workshop.labelling.suggesting import Suggester

__all__ = [
    "FLAG",
    "NOTE",
    "QUALITY",
    "Blind",
    "Desk",
    "Done",
    "Item",
    "Queue",
    "Side",
    "Suggester",
    "Waiting",
    "Wish",
    "blind_of",
    "hides_event",
    "last_done",
    "settle",
    "spelled_value",
    "turns_of",
    "waiting",
]
