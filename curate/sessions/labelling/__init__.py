"""Labelling: a session that asks about records one by one, and the review of what people answered differently."""

from curate.sessions.labelling.done import FLAG, NOTE, QUALITY, Done
from curate.sessions.labelling.excerpts import spelled_value, turns_of
from curate.sessions.labelling.questions import QuestionsDraft, value_lines, with_lines
from curate.sessions.labelling.queue import AnnotatorShare, Prepared, Wish, values_known
from curate.sessions.labelling.review import Review, ReviewItem
from curate.sessions.labelling.session import LabelSession
