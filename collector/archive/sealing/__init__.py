"""Turn a part of the journal into Parquet files, and add late facts to them."""
