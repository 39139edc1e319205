"""`collector completion`: what makes a shell complete our commands, options and their values."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from collector.cli.command import Command
from collector.cli.value_types import Value

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", type=Value(str, _SHELLS), metavar="[bash|zsh|fish]")
def completion(*, shell: str) -> None:
    """
    Print a script that completes commands, options and values in a shell.

    \b
    bash:  collector completion bash > ~/.local/share/bash-completion/completions/collector
    zsh:   collector completion zsh > "${fpath[1]}/_collector"
    fish:  collector completion fish > ~/.config/fish/completions/collector.fish
    """
    script = get_completion_class(shell)
    program = click.get_current_context().find_root().command
    if script is not None:
        click.echo(script(program, {}, "collector", "_COLLECTOR_COMPLETE").source())
