"""Files that are baked for a host: the `cdx` client and its installer."""
