"""The fleet's credentials: what an auth document is, which one wins, the canonical one, its history and its checks.

`exchange` is `POST /auth` and the admin's upload; the rule itself is in `sync`, two pure functions.
"""
