"""What the bridge asks the database."""

from pocketwatch.worker.context import BatchQuery

OWNER = BatchQuery(
    "SELECT car_ads.id, add_accounts.user_id FROM car_ads JOIN add_accounts ON add_accounts.id = car_ads.account_id "
    "WHERE car_ads.id = ANY(:keys)"
)
