from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "tests.site.accounts"
    label = "accounts"
