"""What is kept: the `Fleet` with its `Database`, the tables and migrations, the audit log, and encryption at rest.

`scope` says which database the tables mean, `database.write` runs write work in the one `writer` of a process, and
`engines` has what SQLite, PostgreSQL and MySQL do differently; `driver_errors` turns what they raise into one error.
`queries` and `caches` are for what many requests ask. `sealing` and the keyrings encrypt what `sealed_values` lists.
"""
