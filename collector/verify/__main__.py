"""`python -m collector.verify`."""

from collector.verify.command import verify

if __name__ == "__main__":
    verify(prog_name="collector verify", auto_envvar_prefix="COLLECTOR_VERIFY")
