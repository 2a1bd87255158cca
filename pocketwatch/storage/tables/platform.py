"""The platform's tables, as far as the jobs use them: described here, never altered.

`pocketwatch doctor` compares these columns with the database's.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData()

# Of djangorestframework-simplejwt. The foreign key is checked at commit and has no ON DELETE, so blacklist rows are
# deleted first.
outstanding_tokens = sa.Table(
    "token_blacklist_outstandingtoken",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
)

blacklisted_tokens = sa.Table(
    "token_blacklist_blacklistedtoken",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("token_id", sa.ForeignKey(outstanding_tokens.c.id), nullable=False),
)

users = sa.Table(
    "auth_user",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("is_staff", sa.Boolean, nullable=False),
    sa.Column("is_superuser", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True)),
)

accounts = sa.Table(
    "add_accounts",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("user_id", sa.BigInteger, nullable=False),
    sa.Column("account_type", sa.String(16), nullable=False),
)

ads = sa.Table(
    "car_ads",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("is_validated", sa.Boolean, nullable=False),  # whether it is active
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("updated_at", sa.DateTime(timezone=True)),
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("title", sa.String(255), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("price", sa.Numeric(15, 2)),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("dynamic_fields", JSONB, nullable=False),
    sa.Column("moderated_at", sa.DateTime(timezone=True)),
    sa.Column("moderated_by_id", sa.BigInteger),
    sa.Column("moderation_reason", sa.Text, nullable=False),
    sa.Column("auto_moderation_attempts", sa.Integer, nullable=False),
    sa.Column("needs_manual_review", sa.Boolean, nullable=False),
    sa.Column("manual_review_requested_at", sa.DateTime(timezone=True)),
)

views = sa.Table(
    "ad_views",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("ad_id", sa.BigInteger, nullable=False),
)

WRITTEN = (outstanding_tokens, blacklisted_tokens, ads)  # the others are only read
