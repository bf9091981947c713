"""`python -m curate`."""

from curate.cli import main

# Worker processes import this file again and must not start over.
if __name__ == "__main__":
    main()
