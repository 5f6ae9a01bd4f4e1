"""The tap's command line, also as `python -m tap_mixpanel_parallel`."""

import signal


def main() -> None:
    """Run the command line."""
    # Ctrl-C while the rest is imported ends the process as it does most others: silently.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tap_mixpanel_parallel.tap import TapMixpanelParallel  # noqa: PLC0415

    TapMixpanelParallel.cli()


if __name__ == "__main__":
    main()
