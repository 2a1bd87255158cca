"""One-click unsubscribe: suppress digests and reports to an address.

The site's page receives the click (a POST, RFC 8058) and publishes its token as `mail.unsubscribed`. Tokens are signed.
"""

import jwt

from consumers.mail import suppressions
from pocketwatch.broker.topology import MAIL_UNSUBSCRIBE
from pocketwatch.errors import Reject
from pocketwatch.settings import Mail
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import SideEffectContext
from schemas.mail import MailUnsubscribed

ALGORITHM, PURPOSE, SCOPE = "HS256", "unsubscribe", "subscribed"


@consumer(MAIL_UNSUBSCRIBE)
async def unsubscribe(click: MailUnsubscribed, context: SideEffectContext) -> None:
    """Suppress what one can unsubscribe from; a second click changes nothing."""
    address, scope = verify(click.token, context.settings.mail)
    context.execute(suppressions.ADD_ONE, address=address, scope=scope, reason="recipient has unsubscribed")
    context.record(scope=scope)


def url_for(address: str, mail: Mail) -> str | None:
    """Return the unsubscribe URL of an address; None where no page or no secret is configured."""
    if mail.unsubscribe_url is None or mail.token_secret is None:
        return None
    claims = {"purpose": PURPOSE, "address": address.lower(), "scope": SCOPE}
    return mail.unsubscribe_url + jwt.encode(claims, mail.token_secret.get_secret_value(), ALGORITHM)


def verify(token: str, mail: Mail) -> tuple[str, str]:
    """Return the address and scope of a token. Tokens do not expire: emails stay in mailboxes for years.

    Raises:
        Reject: for an invalid token, without showing it.
    """
    if mail.token_secret is None:
        raise Reject("POCKETWATCH_WEB_TOKEN_SECRET is not set: unsubscribe tokens cannot be verified; set it")
    try:
        claims = jwt.decode(token, mail.token_secret.get_secret_value(), [ALGORITHM])
    except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:  # a hostile header
        raise Reject(f"invalid unsubscribe token: {type(error).__name__}") from None
    address, scope = claims.get("address"), claims.get("scope")
    if claims.get("purpose") != PURPOSE or not isinstance(address, str) or scope != SCOPE:
        raise Reject("invalid unsubscribe token: issued for another purpose")
    return address, scope
