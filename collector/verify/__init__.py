"""
An independent check: compares what a collector published with the chain's record.

It shares no decoding with the data path: block results, amounts, addresses and books are decoded
here a second time, by other code.
"""
