"""`python -m notifyd.report`: see the package."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TextIO

from notifyd.report.job import Job, ReportFailed, directory

EXIT_FAILED, EXIT_USAGE = 1, 64
MAX_REQUEST = 64 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Does what the options say; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.serve:
        return serve(sys.stdin, sys.stdout)
    try:
        if options.sample:
            _job().sample()
        elif options.preview:
            sys.stdout.write(preview()["html"])
        elif options.json:
            report, _, _ = _job().make()
            json.dump(
                {"title": report.title, "attention": report.attention, "sections": _plain(report.sections)}, sys.stdout
            )
        else:
            outcome = _job().send(to=options.to)
            sys.stdout.write(f"{outcome.mail_id}\n")
    except (ReportFailed, OSError) as fault:
        sys.stderr.write(f"notifyd.report: {fault}\n")
        return EXIT_FAILED
    return 0


def serve(requests: TextIO, answers: TextIO) -> int:
    """One request, `{"do": "send", …}`: answers lines of `{"step"}`, then one of `{"result"}` or `{"error"}`."""

    def say(document: Mapping[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    try:
        request = json.loads(requests.readline(MAX_REQUEST))
        say({"result": _do(request, lambda step: say({"step": step}))})
    except (ReportFailed, OSError, ValueError, KeyError, TypeError) as fault:
        say({"error": str(fault) or type(fault).__name__})
        return EXIT_FAILED
    return 0


def _do(request: Mapping[str, Any], progress: Any) -> Mapping[str, Any]:
    if request["do"] == "sample":
        _job().sample()
        return {}
    if request["do"] == "preview":
        return preview()
    if request["do"] != "send":
        raise ValueError("it cannot do that")
    missed, key = int(request.get("missed", 0)), str(request.get("key", ""))
    return asdict(_job(progress).send(missed=missed, key=key, to=[str(each) for each in request.get("to", [])]))


def preview() -> dict[str, Any]:
    """The report as it would be sent now, standing alone."""
    from notifyd.report import render

    report, settings, _ = _job().make()
    return {
        "subject": report.subject,
        "html": render.html(report, settings.language, embedded=True),
        "text": render.text(report, settings.language),
    }


def _job(progress: Any = lambda step: None) -> Job:
    from notifyd.ctl.client import Client

    return Job(Client(), directory(), progress=progress)


def _plain(sections: Any) -> list[Any]:
    """Sections without their images."""
    plain = [asdict(section) for section in sections]
    for section in plain:
        section["charts"] = [
            {name: value for name, value in chart.items() if name != "png"} for chart in section["charts"]
        ]
        for table in section["tables"]:
            table["numeric"] = sorted(table["numeric"])
    return plain


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("notifyd.report", description="The gateway's daily report.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--send", action="store_true", help="make the report and put it into the queue (the default)")
    what.add_argument("--preview", action="store_true", help="print it as HTML")
    what.add_argument("--json", action="store_true", help="print its figures")
    what.add_argument("--sample", action="store_true", help="note this hour's figures")
    what.add_argument("--serve", action="store_true", help="one request on stdin, progress on stdout")
    parser.add_argument(
        "--to", action="append", default=[], metavar="ADDRESS", help="instead of the recipients that are set"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
