"""
Drills: each fault of a list, brought about on running processes, with a table of what followed.

``python -m tests.system.drill`` lists them; with names it runs those. One module per family of
faults: each `@drill` function in this folder is found by itself.
"""
