"""What is wrong with the records of a project: found beside the work, in groups, and kept up with every decision."""

from curate.sessions.problems.excerpt import Excerpt, ExcerptLine
from curate.sessions.problems.groups import ELSEWHERE, Group, Problems
from curate.sessions.problems.listing import By, Heading, ProblemItem, listed
from curate.sessions.problems.problem_list import FixesApplied, ProblemList, problems_of
from curate.sessions.problems.record_fix import RecordFix, RecordFixes, fixes_for

__all__ = [
    "FixesApplied",
    "By",
    "ELSEWHERE",
    "Excerpt",
    "Group",
    "Heading",
    "ProblemItem",
    "RecordFix",
    "RecordFixes",
    "ProblemList",
    "Problems",
    "ExcerptLine",
    "problems_of",
    "fixes_for",
    "listed",
]
