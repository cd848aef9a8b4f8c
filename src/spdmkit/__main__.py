"""`python -m spdmkit` is `spdm`."""

from spdmkit.cli import main

if __name__ == "__main__":
    main()
