"""What the command line does with the parts: `entry` has a function for each command, the others do the longer ones."""
