"""What the watchdog looks at, next to the checks of the groups of consumers."""

from pocketwatch.watchdog.check import Check
from pocketwatch.watchdog.queue_checks import dead_letters, no_consumer, stale_outbox, unhealthy, zombie_consumer
from pocketwatch.watchdog.run_checks import failing, slow, unfinished
from pocketwatch.watchdog.schedule_checks import (
    late,
    missed,
    no_publisher,
    schedule_refused,
    schedules_differ,
    unaccounted,
)

RESTART = 3  # looks: longer than a process needs to start again

CHECKS = (
    Check("no_publisher", no_publisher),
    Check("late", late),
    Check("missed", missed, is_urgent=False),
    Check("unaccounted", unaccounted),
    Check("schedule_refused", schedule_refused),
    Check("schedules_differ", schedules_differ, is_urgent=False, confirmations=RESTART),
    Check("unfinished", unfinished),
    Check("failing", failing),
    Check("slow", slow, is_urgent=False),
    Check("stale_outbox", stale_outbox),
    Check("no_consumer", no_consumer, asks_broker=True, confirmations=RESTART),
    Check("zombie_consumer", zombie_consumer, asks_broker=True, confirmations=RESTART),
    Check("unhealthy", unhealthy, confirmations=RESTART),
    Check("dead_letters", dead_letters, is_urgent=False, asks_broker=True),
)
