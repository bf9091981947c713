"""Labelling without a screen: who is asked what, in which order, and what a model would answer."""

from curate.project.labels.assignment import (
    ORDERS,
    WORDS,
    AnnotatorAssignment,
    Facts,
    Order,
    ordered,
    question_of,
    questions_of,
)
from curate.project.labels.suggest import Suggestion, Suggestions, Trainer

__all__ = [
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
]
