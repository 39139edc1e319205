"""
Facts as tables: the columns of each channel, rows out of events, Arrow batches out of rows.

The archive stores these tables and a `Subscriber` yields them, so one query runs on both.
"""
