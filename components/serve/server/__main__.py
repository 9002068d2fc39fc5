"""`python -m trainyard.components.serve.server`: see `main`."""

from .main import main

if __name__ == "__main__":
    main()
