"""The report of a study: one page to look at, and its Markdown twin."""

from curr_ab.study.report.page import write_report

__all__ = ["write_report"]
