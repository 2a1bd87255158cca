"""Log once that the mail server refuses us, and once that it accepts emails again."""

from loguru import logger

from pocketwatch.smtp.reply_rules import Outcome

CONFIG_ERROR, RECOVERED = "smtp.config_error", "smtp.recovered"
ACCEPTED_AGAIN = 3  # emails in a row; fewer prove nothing where the server refuses only some


class RefusalIncident:
    def __init__(self) -> None:
        self._refused = self._accepted = 0  # emails; those accepted since the last refusal

    def observe(self, outcome: Outcome, reply: str) -> None:
        """Take notice of the result of an email; an email that is not attempted is refused, too."""
        if outcome == "config_error":
            if not self._refused:
                logger.bind(reply=reply).error(CONFIG_ERROR)
            self._refused, self._accepted = self._refused + 1, 0
        elif outcome == "sent" and self._refused:
            self._accepted += 1
            if self._accepted == ACCEPTED_AGAIN:
                logger.bind(refused=self._refused).info(RECOVERED)
                self._refused = 0
