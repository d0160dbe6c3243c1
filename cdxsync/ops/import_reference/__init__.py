"""Import of the reference implementation's database, from a dump as `mysqldump` writes it (`docs/protocol.md 17`)."""
