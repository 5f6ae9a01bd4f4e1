"""`python -m tap_mixpanel_parallel.sandbox`: the sandbox as a program."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Sandbox, Shaping, faults

_EXAMPLES = """\
examples:
  # A server to point a tap at: api_url http://127.0.0.1:8974/api/2.0
  python -m tap_mixpanel_parallel.sandbox

  # Slow, as over the internet, with 20,000 events a day
  python -m tap_mixpanel_parallel.sandbox --events-per-day 20000 \\
      --first-byte-seconds 1.5 --bytes-per-second 2000000

  # The first request for each window is cut in the middle, and one other in ten fails
  python -m tap_mixpanel_parallel.sandbox --fault cut,times=1,each_range \\
      --fault status=500,probability=0.1

"""


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = command_line()
    options = parser.parse_args(arguments)
    if options.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        sandbox = _sandbox(options).start()
    except OSError as error:
        parser.error(f"--port {options.port}: {error.strerror}; --port 0 selects a free one")
    except (ValueError, KeyError, OverflowError) as error:
        parser.error(str(error))
    with sandbox:
        if options.port_file:
            options.port_file.write_text(str(sandbox.port))
        username, secret = sandbox.auth
        print(  # noqa: T201 - this is what the program is for
            f"api_url={sandbox.url} service_account_username={username}"
            f" service_account_secret={secret} project_id={sandbox.credentials.project_id}",
            flush=True,
        )
        stop.wait()
    return 0


def command_line() -> argparse.ArgumentParser:
    """Declare the options of the program."""
    project, limits, shaping = Project(), Limits(), Shaping()
    parser = argparse.ArgumentParser(
        prog="python -m tap_mixpanel_parallel.sandbox",
        description="A local server that behaves like Mixpanel's raw export API. Its project is"
        " synthetic and deterministic. It prints the URL and the credentials, and serves until"
        " Ctrl-C.",
        epilog=_EXAMPLES + "faults, for --fault:\n" + _fault_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--port",
        type=int,
        default=8974,
        help="the port to listen on; 0 selects a free one (default: %(default)s)",
    )
    add("--port-file", type=Path, metavar="PATH", help="write the port to this file")
    add("--verbose", action="store_true", help="log each request to stderr")

    add = parser.add_argument_group("the project").add_argument
    add(
        "--seed",
        type=int,
        default=project.seed,
        help="each seed gives another project (default: %(default)s)",
    )
    add(
        "--events-per-day",
        type=int,
        default=project.events_per_day,
        metavar="N",
        help="the average number; weekends have fewer (default: %(default)s)",
    )
    add(
        "--timezone",
        default=project.timezone,
        metavar="ZONE",
        help="the project's time zone: days begin at its midnight and times are local, as in"
        " projects created before 2023 (default: %(default)s)",
    )
    add("--poison", action="store_true", help="add valid events that often break software")
    add(
        "--as-of",
        type=_moment,
        metavar="ISO",
        help="the current time for the sandbox, such as 2025-06-01T12:00 (UTC if it has no offset;"
        " default: the end of the current day)",
    )

    add = parser.add_argument_group("speed").add_argument
    add(
        "--first-byte-seconds",
        type=float,
        default=shaping.first_byte_seconds,
        metavar="S",
        help="the delay before each answer (default: %(default)s)",
    )
    add(
        "--first-byte-seconds-per-day",
        type=float,
        default=shaping.first_byte_seconds_per_day,
        metavar="S",
        help="the delay added for each day of the range (default: %(default)s)",
    )
    add(
        "--bytes-per-second",
        type=int,
        metavar="N",
        help="the most bytes of body on each connection (default: no limit)",
    )
    add("--cache-bodies", action="store_true", help="keep bodies in memory and serve them again")

    add = parser.add_argument_group("limits").add_argument
    limited = "requests %s (default: %%(default)s)"
    add(
        "--per-hour",
        type=int,
        default=limits.per_hour,
        metavar="N",
        help=limited % "in any hour",
    )
    add(
        "--per-second",
        type=int,
        default=limits.per_second,
        metavar="N",
        help=limited % "in any second",
    )
    add(
        "--concurrent",
        type=int,
        default=limits.concurrent,
        metavar="N",
        help=limited % "at the same time",
    )
    add("--retry-after", action="store_true", help="send the header Retry-After with each 429")
    add("--no-limits", action="store_true", help="accept any number of requests")
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        help="a fault to play; can be repeated; see below",
    )
    return parser


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _fault_help() -> str:
    """Give the description at the start of the module `faults`."""
    return (faults.__doc__ or "").partition("\n\n")[2]


def _sandbox(options: argparse.Namespace) -> Sandbox:
    """Make the sandbox that the options describe.

    Raises:
        ValueError: A value is not valid.
        KeyError: The time zone does not exist.
    """
    project = Project(
        seed=options.seed,
        events_per_day=options.events_per_day,
        timezone=options.timezone,
        poison=options.poison,
    )
    limits = Limits(
        per_hour=options.per_hour,
        per_second=options.per_second,
        concurrent=options.concurrent,
        retry_after=options.retry_after,
    )
    as_of: datetime | None = options.as_of
    return Sandbox(
        project,
        port=options.port,
        limits=None if options.no_limits else limits,
        shaping=Shaping(
            first_byte_seconds=options.first_byte_seconds,
            first_byte_seconds_per_day=options.first_byte_seconds_per_day,
            bytes_per_second=options.bytes_per_second,
        ),
        faults=options.fault,
        as_of=None if as_of is None else lambda: as_of,
        cache_bodies=options.cache_bodies,
    )


if __name__ == "__main__":
    sys.exit(main())
