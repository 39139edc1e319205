"""
An independent check: what a collector published, against what the chain says.

It shares no decoding with the data path: block results, amounts, addresses and books are
read here a second time, by other code.
"""
