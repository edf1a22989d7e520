"""What is fast here and how fast: cases measured beside their peers, scaling, and the price of a reproduction.

`cases.py` declares what is compared, `sides/` has the two sides of each comparison, `measure.py` takes the times,
`results.py` keeps them. Every module of the suite may be imported here; nothing but the command line imports this.
"""
