"""``python -m collector`` is the command ``collector``."""

from collector.cli.program import main

if __name__ == "__main__":
    main()
