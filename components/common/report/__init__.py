"""What reports have in common: one HTML file that needs no network, no script and no other file."""
