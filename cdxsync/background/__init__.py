"""The fleet's background jobs: `definitions` declares each in one place, `checking` and `retention` do the larger ones.

`status` is what admins see of them and of their results. Only these jobs call services outside.
"""
