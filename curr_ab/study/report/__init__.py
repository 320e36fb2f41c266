"""The report of a study: one page to look at, its Markdown twin, the pictures of its law."""

from curr_ab.study.report.page import write_law_figures, write_report

__all__ = ["write_law_figures", "write_report"]
