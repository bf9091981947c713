"""The report of a run: numbers by category and what they can carry, as JSON, Markdown, one HTML file, a table."""

from train.report.build import build_report
from train.report.model import Curve, JudgeSummary, Report, Run
from train.report.people import read_human
from train.report.results import Rules
from train.report.tables import schema_of
from train.report.write import model_card, read_curve, table, write_report
