"""The figures of the front page by the old task's counts, corrected: python -m bench.peers.counts ZONE

One statement each, one after the other. Reads DATABASE_URL.
"""

import json
import os
import sys
import time

import psycopg

TODAY = "created_at >= date_trunc('day', now() AT TIME ZONE %(zone)s) AT TIME ZONE %(zone)s"
COUNTS = {
    "total_ads": "SELECT count(*) FROM car_ads",
    "active_ads": "SELECT count(*) FROM car_ads WHERE status = 'active'",
    "total_users": "SELECT count(*) FROM auth_user",
    "active_users": "SELECT count(*) FROM auth_user WHERE is_active",
    "premium_accounts": "SELECT count(*) FROM add_accounts WHERE account_type = 'PREMIUM'",
    "total_views": "SELECT count(*) FROM ad_views",
    "today_ads": f"SELECT count(*) FROM car_ads WHERE {TODAY}",
    "today_views": f"SELECT count(*) FROM ad_views WHERE {TODAY}",
}


def main(zone: str) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        began = time.perf_counter()
        found = {name: connection.execute(sql.encode(), {"zone": zone}).fetchone() for name, sql in COUNTS.items()}
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "figures": {name: row[0] for name, row in found.items() if row}}))


if __name__ == "__main__":
    main(sys.argv[1])
