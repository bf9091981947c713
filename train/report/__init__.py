"""The report of a run: numbers by category and what they can carry, as JSON, Markdown, one HTML file, a table."""

from train.report.build import build_report, recompute
from train.report.card import CardFacts, dataset_title, licenses, model_card
from train.report.model import Curve, EvalPoint, Report, Run, SplitResult, StepPoint
from train.report.table import table
from train.report.write import HTML, JSON, MARKDOWN, json_schema, read_curve, read_report, write_report

__all__ = [
    "HTML",
    "JSON",
    "MARKDOWN",
    "CardFacts",
    "Curve",
    "EvalPoint",
    "Report",
    "Run",
    "SplitResult",
    "StepPoint",
    "build_report",
    "dataset_title",
    "json_schema",
    "licenses",
    "model_card",
    "read_curve",
    "read_report",
    "recompute",
    "table",
    "write_report",
]
