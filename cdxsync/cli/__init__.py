"""The command line: one module per noun, over the same functions as the API."""
