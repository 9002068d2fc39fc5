"""Serve on this machine, by a process or a container that outlives the step."""
