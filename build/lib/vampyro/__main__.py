"""`python -m vampyro` does what `python run.py` does."""

import sys

from vampyro.cli import main

if __name__ == "__main__":
    sys.exit(main())
