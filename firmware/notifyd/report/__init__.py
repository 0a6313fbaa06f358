"""The daily report: a program of its own, a client of the API like any other.

    python -m notifyd.report --send       makes the report and puts it into the queue
    python -m notifyd.report --preview    prints it as HTML
    python -m notifyd.report --json       prints its figures
    python -m notifyd.report --sample     notes the hour's figures for the charts
    python -m notifyd.report --serve      one request as a JSON line on stdin, progress as JSON lines on stdout

`gather` reads the system, `history` keeps what charts and comparisons need, `figures` makes the report's content of
both (pure), `render` its forms, `job` puts them together.
"""
