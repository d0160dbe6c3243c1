"""Operating a home: creating and opening it, and what admins do with it as a whole.

`homes` opens one; `doctor` examines, `backup` saves, `transfer` moves and `import_reference` fills it; `keys` changes
sealing keys, `consistency` checks stored data.
"""
