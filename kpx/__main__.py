"""``python -m kpx``."""

from kpx.cli import main

if __name__ == "__main__":
    main()
