"""The rules, one module per noun; nothing here knows HTTP or the terminal."""
