"""`python -m tap_mixpanel_parallel`: the tap's command line."""

from tap_mixpanel_parallel.tap import TapMixpanelParallel

TapMixpanelParallel.cli()
