"""What is said of results: figures, pages. Without jax."""

from gandyn.report.page import headlines, summary, write

__all__ = ["headlines", "summary", "write"]
