from django.conf import settings
from django.db import models
from django.utils import timezone


class NotificationMethod(models.TextChoices):
    EMAIL = "email"
    INFO_TABLE = "info_table"
    BOTH = "both"


class NotificationStatus(models.TextChoices):
    PENDING = "pending"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    READ = "read"


class ModerationAction(models.TextChoices):
    AD_NEEDS_REVIEW = "ad_needs_review"
    AD_MAX_ATTEMPTS = "ad_max_attempts"
    AD_FLAGGED = "ad_flagged"
    USER_BANNED = "user_banned"
    CONTENT_VIOLATION = "content_violation"


class ManagerNotificationSettings(models.Model):
    manager = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    email_enabled = models.BooleanField(default=True)
    info_table_enabled = models.BooleanField(default=True)
    email_address = models.EmailField(blank=True)
    notify_for_actions = models.JSONField(default=list)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "moderation_manager_notification_settings"


class ModerationNotification(models.Model):
    manager = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, limit_choices_to={"is_staff": True})
    action = models.CharField(max_length=50, choices=ModerationAction.choices)
    title = models.CharField(max_length=200)
    message = models.TextField()
    ad_id = models.PositiveIntegerField(null=True, blank=True)
    user_id = models.PositiveIntegerField(null=True, blank=True)
    data = models.JSONField(default=dict)
    status = models.CharField(max_length=20, choices=NotificationStatus.choices, default=NotificationStatus.PENDING)
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True)
    priority = models.PositiveSmallIntegerField(default=5)

    class Meta:
        db_table = "moderation_notifications"
        indexes = [
            models.Index(fields=["manager", "status"]),
            models.Index(fields=["action", "created_at"]),
            models.Index(fields=["ad_id"]),
        ]

    def mark_as_read(self) -> None:
        if self.status == NotificationStatus.PENDING:
            self.status, self.read_at = NotificationStatus.READ, timezone.now()
            self.save(update_fields=["status", "read_at"])


class NotificationTemplate(models.Model):
    action = models.CharField(max_length=50, choices=ModerationAction.choices, unique=True)
    subject_template = models.CharField(max_length=200)
    html_template = models.TextField()
    text_template = models.TextField()
    available_variables = models.JSONField(default=list)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "moderation_notification_templates"


class NotificationLog(models.Model):
    notification = models.ForeignKey(ModerationNotification, on_delete=models.CASCADE, related_name="logs")
    method = models.CharField(max_length=20, choices=NotificationMethod.choices)
    recipient = models.EmailField(blank=True)
    status = models.CharField(max_length=20, choices=NotificationStatus.choices)
    error_message = models.TextField(blank=True)
    sent_at = models.DateTimeField(auto_now_add=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    external_id = models.CharField(max_length=100, blank=True)

    class Meta:
        db_table = "moderation_notification_logs"
