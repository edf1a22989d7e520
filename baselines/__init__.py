"""The networks that ESDNet is compared with: one file each, written from their papers."""
