"""Token usage: `entries` as hosts report them, `recording` with totals, `reports`, `summaries` and `pricing`."""
