"""The tap's command line, also as `python -m tap_mixpanel_parallel`."""

import signal


def main() -> None:
    """Run the command line."""
    # Ctrl-C while the rest is imported ends the process as it does most others: silently.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tap_mixpanel_parallel.cli import one_clear_message  # noqa: PLC0415
    from tap_mixpanel_parallel.tap import TapMixpanelParallel  # noqa: PLC0415
    from tap_mixpanel_parallel.write.printing import whole_output  # noqa: PLC0415

    try:
        with one_clear_message(TapMixpanelParallel.logger), whole_output():
            TapMixpanelParallel.cli()
    finally:
        # So does a signal while the interpreter shuts down, where nothing can catch what a
        # handler raises.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)


if __name__ == "__main__":
    main()
