"""The networks that ESDNet is compared with: a folder each, written from their papers."""
