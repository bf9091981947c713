"""Labelling without a screen: who is asked what, in which order, and what a model would answer."""

from curate.project.journal import ASIDES
from curate.project.labels.assign import AnnotatorAssignment
from curate.project.labels.order import ORDERS, WORDS, Facts, Order, ordered
from curate.project.labels.questions import CATEGORY, question_of, questions_of
from curate.project.labels.suggest import Suggestion, Suggestions, Trainer, suggestions_of

__all__ = [
    "ASIDES",
    "CATEGORY",
    "ORDERS",
    "WORDS",
    "AnnotatorAssignment",
    "Facts",
    "Order",
    "Suggestion",
    "Suggestions",
    "Trainer",
    "ordered",
    "question_of",
    "questions_of",
    "suggestions_of",
]
