"""The platform's Celery client, which sends tasks and runs none."""

import os

from celery import Celery

app = Celery("platform", broker=os.environ.get("RABBITMQ_URL"))
