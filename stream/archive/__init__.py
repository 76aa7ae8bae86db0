"""Topics as Parquet files: layout, writer, reader."""
