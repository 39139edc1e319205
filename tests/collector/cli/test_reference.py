"""The page of all commands is what the code says."""

from tests.make_reference import COMMANDS, commands


def test_the_page_of_all_commands_is_made_from_the_code():
    # To make it again: python -m tests.make_reference
    assert COMMANDS.read_text() == commands()
