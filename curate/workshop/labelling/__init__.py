"""Labelling in a workshop: a desk at which records are answered, and the review of what people answered differently."""

from curate.workshop.labelling.blind import HIDDEN, blind_of, hides_event, seen_finding, seen_record
from curate.workshop.labelling.desk import QUALITY, Desk
from curate.workshop.labelling.prepared import Prepared
from curate.workshop.labelling.queue import Queue, Wish, values_known
from curate.workshop.labelling.reading import spelled_value, turns_of
from curate.workshop.labelling.review import Item, Side, Waiting, settle, waiting
from curate.workshop.labelling.suggesting import Suggester
from curate.workshop.labelling.tally import FLAG, NOTE, Done

__all__ = [
    "FLAG",
    "HIDDEN",
    "NOTE",
    "QUALITY",
    "Desk",
    "Done",
    "Item",
    "Prepared",
    "Queue",
    "Side",
    "Suggester",
    "Waiting",
    "Wish",
    "blind_of",
    "hides_event",
    "seen_finding",
    "seen_record",
    "settle",
    "spelled_value",
    "turns_of",
    "values_known",
    "waiting",
]
