"""Where the command ``collector`` begins: importing the program itself takes a tenth of a second."""

from collector.cli.interrupts import killed_by_ctrl_c


def main() -> None:
    """Import the program and run it."""
    with killed_by_ctrl_c():
        from collector.cli import main as program
    program.main()
