"""One run: done, measured, counted, and what it leaves: its record."""
