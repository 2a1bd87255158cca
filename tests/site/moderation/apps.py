from django.apps import AppConfig


class ModerationConfig(AppConfig):
    name = "tests.site.moderation"
    label = "moderation"
