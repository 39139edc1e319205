"""
The web page: a running collector as people see it, live, in any browser.

A process of its own and a subscriber like any other, so it is on no data's way. One poll of
the aggregator serves all who look (`polling`), what they look at is kept once (`board`,
`bookview`), and each browser is told what changed since its last look, when it asks for it
and five times a second at most (`client`).
"""
