"""
The archive: what a collector published, kept in a folder that survives any kill.

A *recorder* subscribes like any other reader and appends each fact to a *journal*. Once a range of
heights is accounted for, it is *sealed* into Parquet files and a line of the *manifest*; then its
part of the journal is deleted. docs/archive.md shows the folder.
*manifest*; then the journal's share of it goes. docs/archive.md draws the folder.
"""
