from django.conf import settings
from django.db import models

from tests.site.models import BaseModel


class AddsAccount(BaseModel):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    account_type = models.CharField(max_length=16, default="BASIC")
    moderation_level = models.CharField(max_length=64, default="AUTO")
    role = models.CharField(max_length=32, default="seller")
    organization_name = models.CharField(max_length=255, blank=True)
    organization_id = models.UUIDField(null=True)
    stats_enabled = models.BooleanField(default=True)
    dealership_id = models.BigIntegerField(null=True)

    class Meta:
        db_table = "add_accounts"
