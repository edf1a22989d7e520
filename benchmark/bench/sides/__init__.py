"""The sides of the comparisons: each function takes a `Setting` and gives what is then called over and over."""
