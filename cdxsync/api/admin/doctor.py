"""`GET /admin/doctor`: the findings of `cdxsync doctor`."""

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.ops import doctor
from cdxsync.ops.doctor.schemas import Report

ROUTES = Routes(Group.OPERATION, Caller.ADMIN)


@ROUTES.get("/admin/doctor", "What cdxsync doctor finds")
def examine(context: Context) -> Report:
    """Examine the home that this server serves."""
    settings = context.fleet.settings
    subject = doctor.Subject(settings.home, settings, database=context.fleet.database)
    return doctor.report(doctor.examine(subject, doctor.NOT_IN_A_SERVER))
