"""Cheroot: TLS, sockets and the life of the process."""
