"""
The archive: what a collector published, kept in a folder that survives any kill.

A *recorder* subscribes like any other reader and appends each fact to a *journal*. Once a range of
heights is accounted for, it is *sealed* into Parquet files and a line of the *manifest*; then its
part of the journal is deleted. docs/archive.md shows the folder.

::

    storage/       the folder: layout, manifest, files that are whole or absent
    journal/       facts that are not sealed yet
    sealing/       from the journal to Parquet files
    reading/       tables, SQL, holes, an overview
    recording/     the recorder's process, and backfill
    maintenance/   compaction and pruning
    replay/        an archive published again
"""
