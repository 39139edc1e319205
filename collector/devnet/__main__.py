"""`python -m collector.devnet`, the same as `collector devnet`."""

from collector.devnet.command import devnet

if __name__ == "__main__":
    devnet(prog_name="collector devnet", auto_envvar_prefix="COLLECTOR_DEVNET")
