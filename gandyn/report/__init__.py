"""What is said of results: figures, pages, tables, summaries. Without jax."""

from gandyn.report.findings import headlines
from gandyn.report.page import write
from gandyn.report.text import summary, table

__all__ = ["headlines", "summary", "table", "write"]
