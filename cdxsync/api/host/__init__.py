"""The API that hosts call with their key, and what needs none: one module a resource.

Each module declares its routes in `ROUTES`; what serves them gets the `routes.Context`.
"""

from cdxsync.api.host import auth, install, oauth, prompts, usage, versions, wrapper

ROUTES = (
    *auth.ROUTES,
    *oauth.ROUTES,
    *usage.ROUTES,
    *wrapper.ROUTES,
    *prompts.ROUTES,
    *versions.ROUTES,
    *install.ROUTES,
)
__all__ = ["ROUTES"]
