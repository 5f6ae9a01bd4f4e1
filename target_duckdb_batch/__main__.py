"""The target's command line, also as `python -m target_duckdb_batch`."""

import signal
import sys


def main() -> None:
    """Run the command line."""
    # Ctrl-C while the rest is imported ends the process as it does most others: silently.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from target_duckdb_batch.target import TargetDuckDBBatch  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"duckdb", "fsspec", "pyarrow"}:
            raise
        sys.exit(
            f"target-duckdb-batch needs {error.name}, which is not installed: "
            "pip install 'tap-mixpanel-parallel[files]'"
        )

    try:
        TargetDuckDBBatch.cli()
    finally:
        # So does a signal while the interpreter shuts down, where nothing can catch what a
        # handler raises.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)


if __name__ == "__main__":
    main()
