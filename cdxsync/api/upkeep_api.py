"""The admin API of what wants attention: the findings of `cdxsync doctor`, and certificates with their ends."""

from bottle import Bottle, HTTPResponse

from cdxsync.api import envelope
from cdxsync.ops import doctor, homes
from cdxsync.store.fleet import Fleet
from cdxsync.views import certificates


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`. The gate stands in `cdxsync.api.app`, before every route under `/admin`."""
    settings = fleet.settings

    @app.get("/admin/doctor")
    def examine() -> HTTPResponse:
        subject = doctor.Subject(settings.home, settings)
        return envelope.answer(doctor.report(doctor.examine(subject, doctor.NOT_IN_A_SERVER)))

    @app.get("/admin/certificates")
    def list_certificates() -> HTTPResponse:
        return envelope.answer(certificates.listing(settings.home / homes.PKI_NAME))
