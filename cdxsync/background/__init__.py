"""The fleet's background jobs: `definitions` has each in one place, `checking` and `retention` do the larger ones.

`status` is what admins see of them and of what they have learned. Only these jobs call services outside.
"""
