from django.apps import AppConfig


class CurrencyConfig(AppConfig):
    name = "tests.site.currency"
    label = "currency"
