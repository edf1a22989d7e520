"""The variants of tables 3, 4 and 5."""
