"""`python -m trainyard`: the command `trainyard`."""

from .launch.commands import main

if __name__ == "__main__":
    main()
