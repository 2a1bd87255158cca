"""Who uses the console, and what they may do."""

from console.web.access.access import Access
from console.web.access.identity import Identity, Role, is_loopback

__all__ = ["Access", "Identity", "Role", "is_loopback"]
