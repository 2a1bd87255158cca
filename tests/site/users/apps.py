from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "tests.site.users"
    label = "users"
