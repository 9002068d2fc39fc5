"""`python -m trainyard`: the command `trainyard`."""

from .launch.commands import trainyard

if __name__ == "__main__":
    trainyard()
