"""Plans, records and what does the runs."""
