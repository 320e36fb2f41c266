"""The report of a fine-tuning: what was tried beside the baselines, as a page and as Markdown."""

from curr_ab.finetuning.report.page import write_report

__all__ = ["write_report"]
