"""Text that leaves the suite: tables in their forms, words, what a terminal gets. Imports no torch."""
