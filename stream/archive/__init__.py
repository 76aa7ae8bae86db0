"""Archives of topics as Parquet files: layout, writer and reader."""
