"""Web requests that write while something else reads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

WRITERS = 4
COLUMNS = (
    "created_at, title, description, currency, dynamic_fields, is_validated, validation_errors, status, "
    "moderation_reason, auto_moderation_attempts, needs_manual_review, model, seller_type, geocode, is_favorite, "
    "use_profile_contacts, account_id, mark_id, city_id, region_id"
)


@contextmanager
def inserting(url: str, *, like: int) -> Iterator[None]:
    """Several connections that insert as fast as they can: each transaction an ad like this one, a view and a user."""
    stop = threading.Event()
    writers = [threading.Thread(target=_insert, args=(url, like, stop)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def _insert(url: str, like: int, stop: threading.Event) -> None:
    """In one transaction the view comes first, in another the ad."""
    ad = f"INSERT INTO car_ads ({COLUMNS}) SELECT {COLUMNS} FROM car_ads WHERE id = {like}"
    view = f"INSERT INTO ad_views (created_at, ip_address, ad_id) VALUES (now(), '192.0.2.1', {like})"
    user = (
        "INSERT INTO auth_user (password, email, is_active, is_staff, is_superuser, created_at) "
        "VALUES ('', gen_random_uuid(), true, false, false, now())"
    )
    with psycopg.connect(url) as connection:
        while not stop.is_set():
            for together in ((ad, user, view), (view, user, ad)):
                for statement in together:
                    connection.execute(statement.encode())
                connection.commit()
