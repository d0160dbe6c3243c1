"""The API that admins call with a client certificate: one module a resource.

Each module declares its routes in `ROUTES`; the gate stands in `cdxsync.api.app`, before every route under `/admin`.
"""

from cdxsync.api.admin import (
    auth,
    certificates,
    dashboard,
    doctor,
    hosts,
    jobs,
    logs,
    overview,
    prompts,
    quota,
    runner,
    state,
    usage,
    versions,
)

ROUTES = (
    *overview.ROUTES,
    *hosts.ROUTES,
    *state.ROUTES,
    *auth.ROUTES,
    *logs.ROUTES,
    *usage.ROUTES,
    *jobs.ROUTES,
    *versions.ROUTES,
    *quota.ROUTES,
    *runner.ROUTES,
    *prompts.ROUTES,
    *dashboard.ROUTES,
    *doctor.ROUTES,
    *certificates.ROUTES,
)
__all__ = ["ROUTES"]
