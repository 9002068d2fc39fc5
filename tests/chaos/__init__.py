"""Faults, kills, races and hostile input, at random by a seed: `make chaos`. docs/reliability.md has the figures."""
