"""
`collector top`: a running collector on one terminal screen.

What it shows is worked out without a screen: `watched` turns answers into a picture, and
`headline`, `grid`, `processes`, `events` and `ladder` turn that into lines of toned text.
`canvas` draws such lines, and sends to the terminal only what changed.
"""
