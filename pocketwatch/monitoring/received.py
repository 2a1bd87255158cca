"""FastStream's own metrics of received messages: sizes, durations, errors, messages in process.

Its label `handler` is the exchange and the routing key, which a retry changes and others choose. Here `handler` and
`job` are the queue, whatever way a message has come.
"""

from collections.abc import Collection
from typing import Any

from faststream import ContextRepo

from pocketwatch.monitoring.metrics import recorder

APP = "pocketwatch"


def received(queues: Collection[str]) -> list[Any]:
    """Return the middleware of a broker that consumes these queues; none where nothing is counted."""
    recording = recorder()
    if recording is None:
        return []
    from faststream.prometheus import ConsumeAttrs  # noqa: PLC0415
    from faststream.prometheus.middleware import PrometheusMiddleware  # noqa: PLC0415
    from faststream.rabbit.prometheus.provider import RabbitMetricsSettingsProvider  # noqa: PLC0415

    class OfQueue(RabbitMetricsSettingsProvider):
        def __init__(self, queue: str) -> None:
            super().__init__()
            self._queue = queue

        def get_consume_attrs_from_message(self, msg: Any) -> ConsumeAttrs:
            return {"destination_name": self._queue, "message_size": len(msg.body), "messages_count": 1}

    def of(queue: str) -> PrometheusMiddleware[Any, Any]:
        provider = OfQueue(queue)
        return PrometheusMiddleware(
            settings_provider_factory=lambda _: provider,
            registry=recording.registry,
            app_name=APP,
            custom_labels={"job": queue},
        )

    middlewares = {queue: of(queue) for queue in queues}

    def middleware(message: Any, /, *, context: ContextRepo) -> Any:
        return middlewares[context.get_local("handler_").queue.name](message, context=context)

    return [middleware]
