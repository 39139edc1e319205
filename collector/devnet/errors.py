"""Why a devnet cannot run."""


class DevnetError(Exception):
    """One sentence for the person at the terminal; the command ends with exit code 3."""
