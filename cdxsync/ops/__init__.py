"""Operating a home: making and opening it, and what admins do with it as a whole.

`homes` opens one; `doctor` examines, `backup` saves, `transfer` moves and `import_reference` fills it; `keys` and
`consistency` look after what is stored.
"""
