"""What is said of results: figures, pages, tables, summaries. Without jax."""

from gandyn.report.facts import as_data, summary, table
from gandyn.report.findings import headlines
from gandyn.report.page import write

__all__ = ["as_data", "headlines", "summary", "table", "write"]
