from django.apps import AppConfig


class AdsConfig(AppConfig):
    name = "tests.site.ads"
    label = "ads"
