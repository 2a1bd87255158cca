"""One click on a letter's List-Unsubscribe: no more digests and reports to that address.

The site's page takes the click (a POST, RFC 8058) and publishes its token as `mail.unsubscribed`; only what is signed
with our secret is believed.
"""

import jwt
import sqlalchemy as sa

from pocketwatch.broker.topology import MAIL_UNSUBSCRIBE
from pocketwatch.errors import Reject
from pocketwatch.settings import Mail
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import SideEffectContext
from schemas.mail import MailUnsubscribed

ALGORITHM, PURPOSE, SCOPE = "HS256", "unsubscribe", "subscribed"
UNSUBSCRIBE = sa.text(
    "INSERT INTO mail_suppressions (address, scope, reason) VALUES (:address, :scope, 'its reader has unsubscribed') "
    "ON CONFLICT DO NOTHING"
)


@consumer(MAIL_UNSUBSCRIBE)
async def unsubscribe(click: MailUnsubscribed, context: SideEffectContext) -> None:
    """Suppress what can be unsubscribed from; a second click changes nothing."""
    address, scope = read(click.token, context.settings.mail)
    context.execute(UNSUBSCRIBE, address=address, scope=scope)
    context.record(scope=scope)


def url_for(address: str, mail: Mail) -> str | None:
    """Where one click unsubscribes this address; None where no page or no secret is set."""
    if mail.unsubscribe_url is None or mail.token_secret is None:
        return None
    claims = {"purpose": PURPOSE, "address": address.lower(), "scope": SCOPE}
    return mail.unsubscribe_url + jwt.encode(claims, mail.token_secret.get_secret_value(), ALGORITHM)


def read(token: str, mail: Mail) -> tuple[str, str]:
    """The address and scope that a token of ours names. It does not expire: letters lie in mailboxes for years.

    Raises:
        GiveUp: when it is none of ours; without showing it.
    """
    if mail.token_secret is None:
        raise Reject("POCKETWATCH_WEB_TOKEN_SECRET is not set, so no token can be checked")
    try:
        claims = jwt.decode(token, mail.token_secret.get_secret_value(), [ALGORITHM])
    except jwt.InvalidTokenError as error:
        raise Reject(f"the token is none of ours ({type(error).__name__})") from None
    address, scope = claims.get("address"), claims.get("scope")
    if claims.get("purpose") != PURPOSE or not isinstance(address, str) or scope != SCOPE:
        raise Reject("the token is none for unsubscribing")
    return address, scope
