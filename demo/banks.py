"""The NBU and PrivatBank on this machine: answers as recorded from them, dated today.

    python -m demo.banks [PORT]     serves until Ctrl-C, and prints the settings that point there

So the demo needs no network, and asks no bank for the sake of a show.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

NBU_PATH = "/NBUStatService/v1/statdirectory/exchange"
PRIVATBANK_PATH = "/p24api/pubinfo"

# Number, name and rate, a few of the 45 that it has; metals last.
NBU_RATES: Mapping[str, tuple[int, str, float]] = MappingProxyType(
    {
        "CZK": (203, "Чеська крона", 2.0954),
        "HUF": (348, "Форинт", 0.142118),
        "IDR": (360, "Рупія", 0.0024596),
        "GBP": (826, "Фунт стерлінгів", 59.7723),
        "USD": (840, "Долар США", 44.6395),
        "XDR": (960, "СПЗ (спеціальні права запозичення)", 61.0487),
        "EUR": (978, "Євро", 51.3354),
        "PLN": (985, "Злотий", 12.1025),
        "XAU": (959, "Золото", 193022.12),
    }
)
PRIVATBANK_RATES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"EUR": ("51.10000", "52.10000"), "USD": ("44.35000", "44.95000")}
)


def today() -> date:
    """The banks' day."""
    return datetime.now(ZoneInfo("Europe/Kyiv")).date()


def nbu_rows(day: date | None = None) -> list[dict[str, Any]]:
    """What the NBU answers, for this day."""
    return [
        {
            "r030": number,
            "txt": name,
            "rate": rate,
            "cc": code,
            "exchangedate": f"{day or today():%d.%m.%Y}",
            "special": "N" if code == "USD" else None,
        }
        for code, (number, name, rate) in NBU_RATES.items()
    ]


def privatbank_rows() -> list[dict[str, Any]]:
    """What PrivatBank answers: cash, without a date."""
    return [
        {"ccy": code, "base_ccy": "UAH", "buy": buy, "sale": sale} for code, (buy, sale) in PRIVATBANK_RATES.items()
    ]


class Counter(BaseHTTPRequestHandler):
    """The counter of both banks."""

    def do_GET(self) -> None:
        """Answer with the rows of the bank whose path is asked for."""
        rows = {NBU_PATH: nbu_rows, PRIVATBANK_PATH: privatbank_rows}.get(self.path.partition("?")[0])
        body = b"" if rows is None else json.dumps(rows(), ensure_ascii=False).encode()
        self.send_response(404 if rows is None else 200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the demo's own lines are enough."""


@contextmanager
def banks(port: int = 0) -> Iterator[dict[str, str]]:
    """Both banks on a port of this machine, any free one by default, for as long as the block lasts.

    Yields:
        The settings that point there.
    """
    with ThreadingHTTPServer(("127.0.0.1", port), Counter) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        here = f"http://127.0.0.1:{server.server_port}"
        try:
            yield {
                "POCKETWATCH_NBU_URL": f"{here}{NBU_PATH}?json",
                "POCKETWATCH_PRIVATBANK_URL": f"{here}{PRIVATBANK_PATH}?exchange&json&coursid=5",
            }
        finally:
            server.shutdown()
            serving.join()


def main() -> None:
    """Serve until Ctrl-C."""
    with banks(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as settings:
        for name, url in settings.items():
            print(f"{name}='{url}'", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
