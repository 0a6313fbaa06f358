"""The application behind a socket: finds the operation, asks the gatekeeper, checks the body, calls the handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from notifyd.api.access import Gatekeeper
from notifyd.api.http import BodyLimit
from notifyd.api.routing import Call, Operation, Router, read_body, read_query
from notifyd.api.wire import ApiProblem, Request, Response, Stream
from notifyd.ports import Gateway


class ApiApplication:
    """Serves one table of operations for one gateway."""

    def __init__(
        self,
        table: Iterable[Operation],
        gateway: Gateway,
        gatekeeper: Gatekeeper,
        report_fault: Callable[[Request, BaseException], None],
    ) -> None:
        self.router = Router(table)
        self.gatekeeper = gatekeeper
        self._gateway = gateway
        self._report_fault = report_fault

    def accept_head(self, request: Request) -> BodyLimit:
        operation, _ = self.router.find(request.method, request.path)
        self.gatekeeper.accept_head(operation, request)
        return operation.limit

    async def handle(self, request: Request) -> Response | Stream:
        try:
            operation, request.parameters = self.router.find(request.method, request.path)
            caller = await self.gatekeeper.caller(operation, request)
            query = read_query(operation, request.query)
            body = read_body(operation, request)
            return await operation.handler(Call(request, caller, self._gateway, self.gatekeeper, body, query))
        except ApiProblem as problem:
            return problem.response()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._report_fault(request, error)
            return ApiProblem(500, "fault", "Something went wrong here; the System log has a record of it.").response()
