"""Prices of models, from `PRICING_URL` (`docs/protocol.md 12.5`)."""

from cdxsync.base.errors import ServiceError
from cdxsync.jobs.schedule import Outcome
from cdxsync.services import client
from cdxsync.store.fleet import Fleet
from cdxsync.usage import pricing


def read(fleet: Fleet) -> Outcome:
    """Read the list and store it. Raises `ServiceError`; the stored list then stays in force."""
    url = fleet.settings.pricing_url
    answer = client.get(url, timeout=fleet.settings.outside_timeout)
    try:
        prices = pricing.parse(answer.json(), fleet.settings.pricing_currency)
    except ValueError as error:
        raise ServiceError(f"{client.place(url)}: {error}", status=answer.status) from None
    pricing.keep(fleet.settings, prices)
    return Outcome(f"prices of {len(prices)} models")
