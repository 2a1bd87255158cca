"""Lines of `currency_update_logs`, in the shape in which the platform's own task wrote them: one per bank asked."""

from collections.abc import Mapping
from typing import Any

from consumers.rates.fetch import Inquiry
from consumers.rates.queries import Stored
from schemas.envelope import Envelope

Line = dict[str, Any]


def line(inquiry: Inquiry, stored: Mapping[str, Stored], origin: Envelope) -> Line:
    """SUCCESS when every rate that the bank should have is in force, PARTIAL when some are."""
    status = "PARTIAL" if inquiry.missing else "SUCCESS"
    successes = [
        {
            "currency": quote.currency,
            "rate": str(quote.rate),
            "rate_date": quote.rate_date.isoformat(),
            "action": stored[quote.currency].action,
            "former": stored[quote.currency].former,
        }
        for quote in inquiry.accepted
    ]
    return _line(inquiry, status, origin) | {"success_details": successes, "error_details": _errors(inquiry)}


def failed_line(inquiry: Inquiry, origin: Envelope) -> Line:
    """FAILED; the message and its attempt are named, so that each attempt has one line."""
    details = {
        "error": inquiry.failure,
        "currencies": _errors(inquiry),
        "message_id": origin.message_id,
        "attempt": origin.attempts,
    }
    return _line(inquiry, "FAILED", origin) | {"success_details": [], "error_details": details}


def _line(inquiry: Inquiry, status: str, origin: Envelope) -> Line:
    return {
        "started_at": inquiry.started_at,
        "completed_at": inquiry.finished_at,
        "status": status,
        "source": inquiry.bank.name,
        "currencies_updated": len(inquiry.accepted),
        "currencies_failed": len(inquiry.missing),
        "triggered_by": origin.trigger,
        "duration_seconds": inquiry.seconds,
        "created_at": inquiry.finished_at,
    }


def _errors(inquiry: Inquiry) -> list[dict[str, str]]:
    return [{"currency": currency, "error": why} for currency, why in inquiry.refused.items()]
