"""Numbers from a results dataset: intervals, tables, verdicts, prediction. Without jax."""
