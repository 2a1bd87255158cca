"""Settings: read once at the entry point, checked, and passed down. Nothing else reads the environment."""

from pocketwatch.settings.sections import (
    Files,
    Logging,
    Mail,
    Moderation,
    Monitoring,
    Rates,
    Servers,
    Sessions,
    Site,
    Web,
)
from pocketwatch.settings.settings import LOCAL_STACK, PREFIX, Settings, load, names, require, unknown_names, use_file
from pocketwatch.settings.types import Address

__all__ = [
    "LOCAL_STACK",
    "PREFIX",
    "Address",
    "Files",
    "Logging",
    "Mail",
    "Moderation",
    "Monitoring",
    "Rates",
    "Servers",
    "Sessions",
    "Settings",
    "Site",
    "Web",
    "load",
    "names",
    "require",
    "unknown_names",
    "use_file",
]
