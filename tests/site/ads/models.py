from django.conf import settings
from django.db import models

from tests.site.models import BaseModel


class AdStatus(models.TextChoices):
    DRAFT = "draft"
    PENDING = "pending"
    ACTIVE = "active"
    NEEDS_REVIEW = "needs_review"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    SOLD = "sold"
    ARCHIVED = "archived"


class VehicleTypeModel(BaseModel):
    name = models.CharField(max_length=100, unique=True)
    slug = models.CharField(max_length=100, unique=True)
    description = models.TextField(null=True)
    icon = models.CharField(max_length=50, null=True)
    is_popular = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    sort_order = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "ads_vehicletype"


class CarMarkModel(BaseModel):
    vehicle_type = models.ForeignKey(VehicleTypeModel, on_delete=models.PROTECT)
    name = models.CharField(max_length=100)
    logo = models.ImageField(upload_to="car_marks/logos/", null=True)
    is_popular = models.BooleanField(default=False)

    class Meta:
        db_table = "ads_carmake"
        unique_together = (("vehicle_type", "name"),)


class RegionModel(BaseModel):
    name = models.CharField(max_length=100, unique=True)
    code = models.CharField(max_length=10, blank=True)
    country = models.CharField(max_length=100, default="Ukraine")
    is_active = models.BooleanField(default=True)

    class Meta:
        db_table = "ads_region"


class CityModel(BaseModel):
    region = models.ForeignKey(RegionModel, on_delete=models.PROTECT)
    name = models.CharField(max_length=100)
    is_regional_center = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    latitude = models.DecimalField(max_digits=9, decimal_places=6, null=True)
    longitude = models.DecimalField(max_digits=9, decimal_places=6, null=True)

    class Meta:
        db_table = "ads_city"
        unique_together = (("name", "region"),)


class CarAd(BaseModel):
    title = models.CharField(max_length=255)
    description = models.TextField()
    price = models.DecimalField(max_digits=15, decimal_places=2, null=True, blank=True)
    currency = models.CharField(max_length=3, default="UAH")
    dynamic_fields = models.JSONField(default=dict)
    is_validated = models.BooleanField(default=False)
    validation_errors = models.JSONField(default=dict)
    status = models.CharField(max_length=20, choices=AdStatus.choices, default=AdStatus.ACTIVE)
    moderated_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    moderated_at = models.DateTimeField(null=True, blank=True)
    moderation_reason = models.TextField(blank=True)
    auto_moderation_attempts = models.PositiveIntegerField(default=0)
    needs_manual_review = models.BooleanField(default=False)
    manual_review_requested_at = models.DateTimeField(null=True, blank=True)
    account = models.ForeignKey("accounts.AddsAccount", on_delete=models.CASCADE)
    mark = models.ForeignKey(CarMarkModel, on_delete=models.PROTECT)
    model = models.CharField(max_length=100)
    generation = models.CharField(max_length=100, null=True, blank=True)
    modification = models.CharField(max_length=100, null=True, blank=True)
    region = models.ForeignKey(RegionModel, on_delete=models.PROTECT)
    city = models.ForeignKey(CityModel, on_delete=models.PROTECT)
    seller_type = models.CharField(max_length=20, default="private")
    exchange_status = models.CharField(max_length=20, null=True, blank=True)
    geocode = models.CharField(max_length=128, blank=True)
    is_favorite = models.BooleanField(default=False)
    use_profile_contacts = models.BooleanField(default=False)
    contact_name = models.CharField(max_length=100, null=True, blank=True)
    additional_info = models.TextField(null=True, blank=True)

    class Meta:
        db_table = "car_ads"
        indexes = [
            models.Index(fields=["created_at"]),
            models.Index(fields=["status", "created_at"]),
            models.Index(fields=["account", "status"]),
            models.Index(fields=["mark", "status"]),
        ]


class AdView(BaseModel):
    ad = models.ForeignKey(CarAd, on_delete=models.CASCADE)
    ip_address = models.GenericIPAddressField()
    user_agent = models.TextField(null=True)
    referrer = models.URLField(null=True)
    session_key = models.CharField(max_length=40, null=True)

    class Meta:
        db_table = "ad_views"


class AddImageModel(BaseModel):
    ad = models.ForeignKey(CarAd, on_delete=models.CASCADE, related_name="images")
    image = models.ImageField(upload_to="ads/images/", blank=True, null=True)
    image_url = models.TextField(blank=True, null=True)
    order = models.PositiveIntegerField(default=0)
    is_primary = models.BooleanField(default=False)
    caption = models.CharField(max_length=255, blank=True)
