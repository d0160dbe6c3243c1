"""What came of an exchange: the decision with the canonical document after it, its answer, and its audit row."""

from dataclasses import dataclass
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType

from cdxsync.auth import grants, runner, sync
from cdxsync.auth.account_schemas import AccountChange
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.schemas import AuthAnswer, AuthStatus, LoginState, RetrieveBody
from cdxsync.base.settings import Settings
from cdxsync.codex.schemas import QuotaSummary, Versions
from cdxsync.hosts.schemas import HostSummary
from cdxsync.store import audit
from cdxsync.store.tables import Host
from cdxsync.usage.schemas import TokenTotals


@dataclass(frozen=True)
class Outcome:
    """The decision, with the canonical document after it, and the grant that its host gets in it, if any."""

    status: str
    payload_id: int | None
    document: AuthDocument | None
    grant: str | None = None
    account_change: AccountChange | None = None

    @property
    def shown(self) -> AuthDocument | None:
        """The canonical document as the host gets it."""
        return as_shown(self.payload_id, self.document, self.grant)

    def answer(
        self,
        settings: Settings,
        host: HostSummary | None,
        *,
        api_calls: int,
        token_usage_month: TokenTotals | None,
        versions: Versions,
        chatgpt_usage: QuotaSummary | UnsetType = UNSET,
        login: LoginState | UnsetType = UNSET,
        prompts_etag: str | UnsetType = UNSET,
    ) -> AuthAnswer:
        """The answer; what of it depends on the status, by `docs/protocol.md 4.4`."""
        document, shown = self.document, self.shown
        returned = shown if self.status in sync.RETURNS_DOCUMENT else None
        is_store = isinstance(self.status, sync.StoreStatus) and document is not None
        return AuthAnswer(
            status=cast(AuthStatus, str(self.status)),
            action="store" if self.status in sync.ASKS_TO_STORE else UNSET,
            canonical_last_refresh=document.last_refresh if document else None,
            canonical_digest=shown.digest if shown else None,
            runner_applied=False if is_store else UNSET,
            validation=runner.validation_of(settings, document) if is_store and document is not None else UNSET,
            auth=UNSET if returned is None else msgspec.Raw(returned.body),
            host=UNSET if returned is None or host is None else host,
            api_calls=api_calls,
            token_usage_month=token_usage_month,
            versions=versions,
            chatgpt_usage=chatgpt_usage,
            login=login,
            account_change=self.account_change or UNSET,
            prompts_etag=prompts_etag,
        )


def as_shown(payload_id: int | None, document: AuthDocument | None, grant: str | None) -> AuthDocument | None:
    """The canonical document as a host with this grant gets it."""
    if grant is None or document is None or payload_id is None or not grants.applies_to(document):
        return document
    return grants.variant(payload_id, document, grant)


def record(
    action: str,
    outcome: Outcome,
    incoming: RetrieveBody | AuthDocument,
    *,
    actor: str,
    host: Host | None,
    more: dict[str, Any] | None = None,
) -> None:
    """The audit row of an exchange, with what came in and what is canonical after it (`docs/protocol.md 4.5`)."""
    audit.record(
        action,
        actor=actor,
        host=host,
        status=outcome.status,
        incoming_last_refresh=incoming.last_refresh,
        incoming_digest=incoming.digest,
        stored_last_refresh=outcome.document.last_refresh if outcome.document else None,
        stored_digest=outcome.document.digest if outcome.document else None,
        **(more or {}),
    )
