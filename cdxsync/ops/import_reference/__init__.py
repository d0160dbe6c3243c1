"""Import of the reference implementation's database, from a dump as `mysqldump` writes it (`contract.md` 12, 14)."""
