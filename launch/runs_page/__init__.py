"""The page of the runs on this machine, `index.html` in their folder: one file that opens without a network."""
