"""The admin API of what wants attention: the findings of `cdxsync doctor`, and certificates with their ends."""

from bottle import Bottle, HTTPResponse

from cdxsync import deployment, doctor
from cdxsync.domain import certificates
from cdxsync.domain.fleet import Fleet
from cdxsync.http import envelope


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`. The gate stands in `cdxsync.http.app`, before every route under `/admin`."""
    settings = fleet.settings

    @app.get("/admin/doctor")
    def examine() -> HTTPResponse:
        subject = doctor.Subject(settings.home, settings)
        return envelope.answer(doctor.report(doctor.examine(subject, doctor.NOT_IN_A_SERVER)))

    @app.get("/admin/certificates")
    def list_certificates() -> HTTPResponse:
        return envelope.answer(certificates.listing(settings.home / deployment.PKI_NAME))
