"""Labelling without a screen: who is asked what, in which order, who may see what, and what a model would answer."""

from curate.journal import ASIDES
from curate.label.assign import Assignment
from curate.label.blind import Answered, Blind, blind_for
from curate.label.order import ORDERS, WORDS, Facts, Order, ordered
from curate.label.questions import CATEGORY, question_of, questions_of
from curate.label.suggest import Suggestion, Suggestions, Trainer, suggestions_of

__all__ = [
    "ASIDES",
    "CATEGORY",
    "ORDERS",
    "WORDS",
    "Answered",
    "Assignment",
    "Blind",
    "Facts",
    "Order",
    "Suggestion",
    "Suggestions",
    "Trainer",
    "blind_for",
    "ordered",
    "question_of",
    "questions_of",
    "suggestions_of",
]
