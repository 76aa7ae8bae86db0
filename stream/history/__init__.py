"""History: topics kept as Parquet, and played again, as published or computed anew."""
