"""One page."""

from django.urls import path

from . import pages

urlpatterns = [path("", pages.show, name="inside")]
