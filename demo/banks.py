"""The NBU and PrivatBank on this machine, so that the demo needs no network: recorded answers, dated today.

python -m demo.banks [PORT]     serves until Ctrl-C, and prints the settings that point there
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

# Number, name and rate of a few of its 45 currencies and metals.
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
    return datetime.now(ZoneInfo("Europe/Kyiv")).date()


def nbu_rows(day: date | None = None) -> list[dict[str, Any]]:
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
    return [
        {"ccy": code, "base_ccy": "UAH", "buy": buy, "sale": sale} for code, (buy, sale) in PRIVATBANK_RATES.items()
    ]


class BankHandler(BaseHTTPRequestHandler):
    """Serves both banks."""

    def do_GET(self) -> None:
        rows = {NBU_PATH: nbu_rows, PRIVATBANK_PATH: privatbank_rows}.get(self.path.partition("?")[0])
        body = b"" if rows is None else json.dumps(rows(), ensure_ascii=False).encode()
        self.send_response(404 if rows is None else 200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def banks(port: int = 0) -> Iterator[dict[str, str]]:
    """Serve both banks on this port, any free one by default, and yield the settings that point there."""
    with ThreadingHTTPServer(("127.0.0.1", port), BankHandler) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        base = f"http://127.0.0.1:{server.server_port}"
        try:
            yield {
                "POCKETWATCH_NBU_URL": f"{base}{NBU_PATH}?json",
                "POCKETWATCH_PRIVATBANK_URL": f"{base}{PRIVATBANK_PATH}?exchange&json&coursid=5",
            }
        finally:
            server.shutdown()
            serving.join()


def main() -> None:
    with banks(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as settings:
        for name, url in settings.items():
            print(f"{name}='{url}'", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
