"""What admins see of several parts at once: the `overview`, the list of `hosts`, and `certificates`."""
