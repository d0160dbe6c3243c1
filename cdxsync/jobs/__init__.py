"""How background jobs run: `schedule` says when one is due, `lease` who may run it, `scheduler` runs it."""
