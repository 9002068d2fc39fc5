"""`python -m trainyard`: the command `trainyard`."""

from trainyard.launch.commands import trainyard

if __name__ == "__main__":
    trainyard()
